"""What prediction writes: a folder that is there when all of it is.

    .OUTPUT.unfinished/      until then: the parts that are complete, and what they are of
    OUTPUT/
      part-00000.parquet     kept columns and scores, rows in the order of the input
      _predict.json          checkpoint, config, input, columns

Interrupted work goes on where it was: a part appears under its name when it is complete.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.config import ConfigError, check_local

JOB_FILE = "_predict.json"
ROWS_PER_GROUP = 1 << 17


class PredictOutput:
    """The output folder of one job.

    Args:
        path: the folder, on a file system that all ranks see.
        job: what the output depends on; work of another job is not gone on with.

    Raises:
        ConfigError: the path is a URL.
    """

    def __init__(self, path: str, job: dict[str, Any]) -> None:
        check_local("predict_output_path", path)
        self.path, self.job = Path(path), job
        self.staging = self.path.parent / f".{self.path.name}.unfinished"

    def is_complete(self) -> bool:
        """Whether this very job is done. Raises ConfigError if something else is there."""
        if not self.path.exists():
            return False
        if _read_job(self.path) != self.job:
            raise ConfigError(
                f"predict_output_path must be new, but {self.path} is there, and not of this "
                f"checkpoint, config, input and columns; remove it, or give another path"
            )
        return True

    def start(self) -> None:
        """Make the staging folder, or go on in it. Raises ConfigError if it is another job's."""
        if self.staging.exists() and any(self.staging.iterdir()):
            if _read_job(self.staging) != self.job:
                raise ConfigError(
                    f"{self.staging} holds unfinished work of another checkpoint, config, input or "
                    f"columns; remove it, or give another --predict_output_path"
                )
            return
        self.staging.mkdir(parents=True, exist_ok=True)
        unfinished = self.staging / f"{JOB_FILE}.tmp"
        unfinished.write_text(json.dumps(self.job, indent=2))
        unfinished.rename(self.staging / JOB_FILE)

    def has(self, name: str) -> bool:
        """Whether a part is complete."""
        return (self.staging / name).is_file()

    def publish(self) -> None:
        """All parts are complete: give the folder its name."""
        for leftover in self.staging.glob("*.tmp"):
            leftover.unlink()
        self.staging.rename(self.path)


class PartWriter:
    """Writes one part: under a temporary name until it is complete."""

    def __init__(self, output: PredictOutput, name: str) -> None:
        self._final = output.staging / name
        self._unfinished = output.staging / f"{name}.tmp"
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._waiting.append(table)
        self._rows += table.num_rows
        if self._rows >= ROWS_PER_GROUP:
            self._write_group()

    def close(self) -> None:
        """Complete the part."""
        self._write_group()
        assert self._writer is not None  # parts have rows
        self._writer.close()
        self._unfinished.rename(self._final)

    def _write_group(self) -> None:
        if not self._rows:
            return
        table = pa.concat_tables(self._waiting)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._unfinished, table.schema)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._waiting, self._rows = [], 0


def _read_job(folder: Path) -> Any:
    file = folder / JOB_FILE
    return json.loads(file.read_text()) if file.is_file() else None
