"""What a checkpoint is: a folder `model.ckpt-STEP` that holds all that training goes on with.

    .metadata, __RANK_0.distcp   model and optimizer (torch.distributed.checkpoint)
    pipeline.config              the config of the run
    sharding_plan.json           how its embedding tables lay on its ranks
    history.json                 what was logged so far
    log_entry.json               what the next log entry has of the steps so far
    train_metrics.json           the sums of train_metrics
    hashed_columns.json          of features that hash: whether their columns hold integers or text
    train_state.json             where training stands; size and CRC-32 of every other file; its own

`train_state.json` is written last, and the folder gets its name when all of it is on disk: see
trainer/checkpoints/writer.py. Any world size can load it: see trainer/checkpoints/loader.py.
"""

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.config import ConfigError
from trainer.data.plan import Place

BEST_FILE = "best_checkpoint.json"  # of a model_dir
STATE_FILE = "train_state.json"
HISTORY_FILE = "history.json"
LOG_ENTRY_FILE = "log_entry.json"
TRAIN_METRICS_FILE = "train_metrics.json"
HASHED_FILE = "hashed_columns.json"
CONFIG_FILE = "pipeline.config"
PLAN_FILE = "sharding_plan.json"
PREFIX = "model.ckpt-"
CHUNK_BYTES = 1 << 24

Metrics = dict[str, dict[str, float]]  # per task, by name
FileFacts = dict[str, tuple[int, int]]  # per file: bytes and CRC-32


@dataclass(frozen=True)
class TrainState:
    """Where training stands: the next batch is the one of `epoch` that starts at `place`.

    The global batches depend on dataset_fingerprint, seed, shuffle, drop_remainder,
    global_batch_rows and num_lanes (ranks when training began) alone, not on the ranks that go on.
    Random numbers of a step depend on seed, epoch, step and rank alone, so the seed is their state.
    """

    global_step: int
    epoch: int
    place: Place
    seed: int
    global_batch_rows: int
    num_lanes: int
    shuffle: bool
    drop_remainder: bool
    dataset_fingerprint: str

    @property
    def batch_size(self) -> int:
        """Most rows of a rank's batch when training began."""
        return self.global_batch_rows // self.num_lanes


def checkpoint_path(model_dir: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return model_dir / f"{PREFIX}{step}"


def step_of(checkpoint: Path) -> int:
    """The global step after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix(PREFIX))


def list_checkpoints(model_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first; whether each is undamaged, `find_damage` says."""
    return [path for path in checkpoint_folders(model_dir) if (path / STATE_FILE).is_file()]


def checkpoint_folders(model_dir: Path) -> list[Path]:
    """What has a checkpoint's name, oldest first. One that is not complete is damaged."""
    found = [
        path for path in model_dir.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()
    ]
    return sorted(found, key=step_of)


# ------------------------------------------------------------------ train_state.json


def state_document(state: TrainState, files: FileFacts, metrics: Metrics | None) -> str:
    """The text of train_state.json; `metrics` where the model was evaluated at this step."""
    document = {"state": asdict(state), "metrics": metrics, "files": files}
    return json.dumps({**document, "checksum": _checksum(document)}, indent=2)


def read_state(checkpoint: Path) -> tuple[TrainState, list[dict[str, Any]]]:
    """Where training stood, and its logged history. Raises ConfigError for another release's."""
    document = _read_document(checkpoint)
    try:
        fields = document["state"]
        state = TrainState(**{**fields, "place": Place(**fields["place"])})
    except (KeyError, TypeError):
        raise ConfigError(
            f"{checkpoint} must be of this release, but {STATE_FILE} has: "
            f"{', '.join(sorted(document))}; train on with the release that wrote it, or start "
            f"anew in another --model_dir"
        ) from None
    return state, json.loads((checkpoint / HISTORY_FILE).read_text())


def read_document(checkpoint: Path, name: str) -> dict[str, Any]:
    """What a JSON file of a checkpoint holds; empty for one that was written without it."""
    path = checkpoint / name
    return json.loads(path.read_text()) if path.is_file() else {}


def read_metrics(checkpoint: Path) -> Metrics:
    """The metrics of a checkpoint's evaluation; empty without one."""
    try:
        return _read_document(checkpoint).get("metrics") or {}
    except (OSError, ValueError):  # damaged
        return {}


def _read_document(checkpoint: Path) -> dict[str, Any]:
    """What train_state.json holds. Raises ValueError if it is not as it was written."""
    document = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"must hold an object, but holds: {type(document).__name__}")
    if document.pop("checksum", None) != _checksum(document):
        raise ValueError("must be as it was written, but its checksum is missing or differs")
    return document


def _checksum(document: dict[str, Any]) -> int:
    """CRC-32 of what train_state.json holds besides it."""
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())


# ------------------------------------------------------------------ damage


def facts_of(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file."""
    checksum, size = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    return size, checksum


def find_damage(checkpoint: Path, share: int = 0, shares: int = 1) -> str | None:
    """What is wrong with a checkpoint's files; None if they are as they were written.

    Each file is read. With `shares` ranks each looks at its `share` of the files alone.
    """
    try:
        files = _read_document(checkpoint)["files"]
    except FileNotFoundError:
        return f"{STATE_FILE} is missing"
    except (OSError, ValueError) as error:
        return f"{STATE_FILE} cannot be read: {error}"
    for name, (size, checksum) in sorted(files.items())[share::shares]:
        try:
            found_size, found_checksum = facts_of(checkpoint / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error}"
        if found_size != size:
            return f"{name} must have {size:,} bytes, but has {found_size:,}"
        if found_checksum != checksum:
            return f"{name} is not as it was written (its CRC-32 differs)"
    return None
