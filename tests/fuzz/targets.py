"""What is fuzzed: the readers of what others wrote, each with the error it documents.

`make fuzz SECONDS=600` runs them long, tests/fuzz/test_targets.py a few hundred examples each.
Inputs are whole ones, damaged: pieces cut out, doubled, swapped for words of the language or noise.
"""

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from preprocessing import dataset_format as df
from preprocessing.normalizer import FUNCTIONS, OPERATORS, Normalizer
from tests.configs import TWO_TASKS
from trainer.checks.config import check_config
from trainer.config import ConfigError, edit_config, parse_config
from trainer.data.coding import NUMPY

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIGS = [TWO_TASKS, *(path.read_text() for path in sorted(EXAMPLES.glob("*/*.config")))]
NORMALIZERS = [
    "method=log10,threshold=1e-10,default=-10",
    "method=zscore,mean=0.0,standard_deviation=10.0",
    "method=minmax,min=2.1,max=2.2",
    "method=expression,expr=x > 3 ? -log(x + 1) ^ 2 : min(x, _pi, 4e-1) * (x != 0 || x <= 2)",
]
OVERRIDES = [
    '{"train_config.num_epochs": 2, "feature_configs[0].id_feature.num_buckets": 8}',
    '{"data_config": {"batch_size": 64, "label_fields": ["click", "buy"]}, "model_dir": "runs/a"}',
    '{"feature_configs[:].id_feature.embedding_dim;train_config.sparse_optimizer": "8;'
    'adam_optimizer { lr: 0.1 }", "feature_configs[id_feature.num_buckets>9].id_feature": '
    '{"num_buckets": "30"}, "model_config.dbmtl.bottom_mlp.hidden_units": "[8, 4]"}',
]


def fuzz_settings(**options: Any) -> settings:
    """Of a test whose inputs are large, slow and not kept."""
    checks = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
    return settings(deadline=None, database=None, suppress_health_check=checks, **options)


@dataclass(frozen=True)
class Target:
    """A reader and its inputs.

    Attributes:
        errors: what the reader documents; any other exception is a bug.
        read: takes an input.
    """

    inputs: st.SearchStrategy[bytes]
    errors: tuple[type[Exception], ...]
    read: Callable[[bytes], object]

    def run(self, data: bytes) -> bool:
        """Whether the input was taken; False where it was refused as documented."""
        try:
            self.read(data)
        except self.errors:
            return False
        return True


@st.composite
def damaged(draw: st.DrawFn, wholes: list[bytes], words: list[bytes]) -> bytes:
    """A whole input with up to eight wounds."""
    data = bytearray(draw(st.sampled_from(wholes)))
    piece = st.one_of(st.sampled_from(words), st.binary(max_size=8))
    for _ in range(draw(st.integers(0, 8))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.one_of(st.integers(0, 4), st.integers(0, 200)))
        kind = draw(st.sampled_from(("cut", "replace", "insert", "double", "nest")))
        if kind == "double":
            data[at:at] = data[at:end]
        elif kind == "nest":
            data[at:at] = draw(piece) * draw(st.sampled_from((2, 50, 5000)))
        else:
            data[at : at if kind == "insert" else end] = b"" if kind == "cut" else draw(piece)
    return bytes(data)


def words(text: str) -> list[bytes]:
    """A list of words as bytes."""
    return [word.encode() for word in text.split()]


# ------------------------------------------------------------------ datasets


class MemoryFolder(dict[str, bytes]):
    """A dataset folder as {name: contents}."""

    def __str__(self) -> str:
        return "memory"

    def exists(self, name: str = "") -> bool:
        return not name or name in self

    def size(self, name: str) -> int:
        if name not in self:
            raise FileNotFoundError(name)
        return len(self[name])

    def read_bytes(self, name: str) -> bytes:
        return self[name]


def whole_dataset() -> tuple[MemoryFolder, df.Manifest]:
    """Two files of three sessions; the data files themselves are not read here."""
    folder, files = MemoryFolder(), []
    for number, lengths in enumerate(([2, 1], [3])):
        name = df.data_file_name(number)
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        columns = {"row_start": pa.array(starts), "num_rows": pa.array(lengths, pa.int32())}
        index = io.BytesIO()
        pq.write_table(pa.table(columns), index)
        folder |= {name: b"rows", f"_index/{name}": index.getvalue()}
        files.append(df.DataFile(name, sum(lengths), len(lengths), len(folder[name]), 7 * number))
    manifest = df.Manifest(
        session_columns=("u",),
        timestamp_column="t",
        tie_breakers=("i",),
        schema=(df.Column("u", "bigint"), df.Column("t", "bigint")),
        files=tuple(files),
        statistics=df.Statistics(6, 3, 3, 2, 3, 3, 0, 2.5),
        fingerprint="f00d",
    )
    folder[df.MANIFEST_NAME] = manifest.to_json().encode()
    return folder, manifest


FOLDER, MANIFEST = whole_dataset()
INDEX = FOLDER["_index/part-00000.parquet"]


def read_dataset(manifest: bytes) -> None:
    """Read a dataset whose manifest is `manifest`, and its index."""
    folder = MemoryFolder({**FOLDER, df.MANIFEST_NAME: manifest})
    for file in df.read_manifest(folder).files:
        contents = pa.BufferReader(folder[f"{df.INDEX_FOLDER}/{file.name}"])
        df.read_index_file(contents, file, file.name)


def read_index(index: bytes) -> None:
    """Read an index file, of what the manifest says."""
    df.read_index_file(pa.BufferReader(index), MANIFEST.files[0], "index")


def renamed(name: str) -> bytes:
    """The manifest with another name of its first file."""
    files = (replace(MANIFEST.files[0], name=name), *MANIFEST.files[1:])
    return json.dumps(asdict(replace(MANIFEST, files=files))).encode()


# ------------------------------------------------------------------ configs


def read_config(text: bytes) -> None:
    """Parse a config and check its parts against each other."""
    check_config(parse_config(text.decode(errors="replace")))


def read_overrides(text: bytes) -> None:
    """Set fields of a config from the command line."""
    config = parse_config(TWO_TASKS)
    edit_config(config, text.decode(errors="replace"))
    check_config(config)


def read_normalizer(text: bytes) -> Any:
    """Parse a normaliser and compute it."""
    normalizer = Normalizer.parse(text.decode(errors="replace"))
    with np.errstate(all="ignore"):
        return normalizer.evaluate(np.array([-1.0, 0.0, 2.5]), NUMPY)


JSON_WORDS = words('{ } [ ] : , " \\ null true NaN 1e999 -1 9223372036854775808 "" "../x" \\ud800')
CONFIG_WORDS = words('{ } [ ] < > : ; , " # { } model_config losses jrc_loss inf nan -1 1e99 0x1F')
TARGETS = {
    "config": Target(
        damaged([text.encode() for text in CONFIGS], CONFIG_WORDS), (ConfigError,), read_config
    ),
    "overrides": Target(
        damaged([text.encode() for text in OVERRIDES], JSON_WORDS), (ConfigError,), read_overrides
    ),
    "normalizer": Target(
        damaged(
            [text.encode() for text in NORMALIZERS],
            words(" ".join((*OPERATORS[:-2], *FUNCTIONS, "( ) ? : , x _pi 1e400 - 0"))),
        ),
        (ValueError,),
        read_normalizer,
    ),
    "manifest": Target(
        damaged([FOLDER[df.MANIFEST_NAME]], JSON_WORDS), (df.DatasetError,), read_dataset
    ),
    "index": Target(
        damaged([INDEX], [b"PAR1", b"\x00" * 4, b"\xff" * 8, b"\x15", b"\x19"]),
        (df.DatasetError,),
        read_index,
    ),
}
