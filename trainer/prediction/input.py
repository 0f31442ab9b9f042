"""What prediction reads: Parquet files in the order of their names, cut into parts.

A part is some row groups of one file and becomes one output file. Parts depend on the input alone,
not on the ranks: whatever was written before an interruption is kept by whoever goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.dataset_format import MANIFEST_NAME, DatasetError, read_manifest
from trainer.data.storage import Storage, expand_paths

ROWS_PER_PART = 1 << 20  # or one row group that has more

_SPARK_TYPES = {
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float": "float",
    "double": "double",
    "bool": "boolean",
    "string": "string",
    "large_string": "string",
}


@dataclass(frozen=True)
class InputFile:
    """A Parquet file: its folder and its name there."""

    folder: Storage
    name: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def parquet(self) -> pq.ParquetFile:
        """Open it. Raises DatasetError."""
        try:
            return pq.ParquetFile(
                self.folder.open(self.name),
                pre_buffer=self.folder.is_remote,
                page_checksum_verification=True,
            )
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise DatasetError(f"{self} cannot be read ({reason}); copy it again") from error


@dataclass(frozen=True)
class InputPart:
    """Row groups [first, stop) of a file.

    number: of the part among all; output files are in this order.
    """

    number: int
    file: InputFile
    first: int
    stop: int
    num_rows: int

    @property
    def output_name(self) -> str:
        """The file that its predictions go to."""
        return f"part-{self.number:05d}.parquet"

    def read(self, columns: list[str], batch_size: int) -> Iterator[pa.Table]:
        """Its rows in order, batch_size at a time; the last table may have fewer."""
        groups = list(range(self.first, self.stop))
        waiting: list[pa.Table] = []  # less than a batch: the end of a row group
        with self.file.parquet() as parquet:
            for batch in parquet.iter_batches(
                batch_size, row_groups=groups, columns=columns, use_threads=False
            ):
                table = pa.concat_tables([*waiting, pa.Table.from_batches([batch])])
                while table.num_rows >= batch_size:
                    yield table.slice(0, batch_size)
                    table = table.slice(batch_size)
                waiting = [table] if table.num_rows else []
        yield from waiting


@dataclass(frozen=True)
class PredictInput:
    """All parts, the columns of the files, and a line per file that tells it from another."""

    parts: list[InputPart]
    schema: pa.Schema
    files: list[str]

    @property
    def num_rows(self) -> int:
        """Of all parts."""
        return sum(part.num_rows for part in self.parts)

    @property
    def spark_types(self) -> dict[str, str]:
        """Each column's type in Spark's words."""
        return {field.name: spark_type(field.type) for field in self.schema}

    @classmethod
    def open(cls, path: str) -> "PredictInput":
        """Session datasets or folders of Parquet files, or one file; see storage.expand_paths.

        Raises:
            DatasetError: there is no Parquet file, one cannot be read, or their columns differ.
        """
        parts: list[InputPart] = []
        schema, files = None, []
        for file in _input_files(path):
            with file.parquet() as parquet:
                found = parquet.schema_arrow.remove_metadata()
                metadata = parquet.metadata
            if schema is not None and not found.equals(schema):
                raise DatasetError(
                    f"files of {path} must have the same columns, but {file} differs from those "
                    f"before it: {_difference(schema, found)}"
                )
            schema = found
            rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            parts += _cut(file, rows, len(parts))
            files.append(f"{file} {file.folder.size(file.name)} {rows}")
        if not parts or schema is None:
            raise DatasetError(f"predict_input_path {path} must have rows, but has none")
        return cls(parts, schema, files)


def spark_type(type_: pa.DataType) -> str:
    """Spark's name of an Arrow type; that of a type it does not share is Arrow's."""
    if pa.types.is_dictionary(type_):
        return spark_type(type_.value_type)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"array<{spark_type(type_.value_type)}>"
    if pa.types.is_map(type_):
        return f"map<{spark_type(type_.key_type)},{spark_type(type_.item_type)}>"
    return _SPARK_TYPES.get(str(type_), str(type_))


def _input_files(path: str) -> list[InputFile]:
    files = []
    for each in expand_paths(path):
        if each.endswith(".parquet"):
            folder, _, name = each.rpartition("/")
            files.append(InputFile(Storage(folder or "."), name))
            continue
        folder = Storage(each)
        names = [n for n in folder.files() if n.endswith(".parquet") and n[0] not in "._"]
        if folder.exists(MANIFEST_NAME):
            names = [file.name for file in read_manifest(folder).files]
        if not names:
            raise DatasetError(
                f"predict_input_path must be a folder of Parquet files, but {each} has none"
            )
        files += [InputFile(folder, name) for name in names]
    return files


def _cut(file: InputFile, rows: list[int], number: int) -> list[InputPart]:
    """Parts of a file with row groups of so many rows, numbered from `number` on."""
    parts: list[InputPart] = []
    first = total = 0
    for group, count in enumerate(rows):
        total += count
        if total and (total >= ROWS_PER_PART or group == len(rows) - 1):
            parts.append(InputPart(number + len(parts), file, first, group + 1, total))
            first, total = group + 1, 0
    return parts


def _difference(one: pa.Schema, other: pa.Schema) -> str:
    fields = {f"{field.name} {field.type}" for field in one} ^ {
        f"{field.name} {field.type}" for field in other
    }
    return ", ".join(sorted(fields)) or "their order"
