"""The recorded runs: a JSON line each, in the order in which they ended."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "results" / "study.jsonl"


@dataclass(frozen=True)
class Record:
    """One run: per label its metrics by name; `seconds` of wall time, `machine` in words."""

    dataset: str
    loss: str
    seed: int
    metrics: dict[str, dict[str, float]]
    seconds: float
    machine: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes a run the same run."""
        return self.dataset, self.loss, self.seed


def read_records(path: Path = RESULTS) -> list[Record]:
    """All runs of a file; none where there is no file."""
    if not path.exists():
        return []
    return [Record(**json.loads(line)) for line in path.read_text().splitlines()]


def append_record(record: Record, path: Path = RESULTS) -> None:
    """Add a run, its figures rounded to six digits behind the point."""
    fields = asdict(record)
    fields["metrics"] = {
        label: {name: round(value, 6) for name, value in found.items()}
        for label, found in record.metrics.items()
    }
    with path.open("a") as file:
        file.write(json.dumps(fields) + "\n")
