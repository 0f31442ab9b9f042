"""The command line flags of feature encoding, and their effect on the rows of the job."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

if __package__:  # imported as preprocessing.encoding_flags
    from preprocessing import feature_encoding, pipeline_text, vocabulary
    from preprocessing.dataset_writer import WRITE_CONF, settings
    from preprocessing.hadoop_files import HadoopFiles
else:  # run by spark-submit, see jrc_sort.py
    import feature_encoding
    import pipeline_text
    import vocabulary
    from dataset_writer import WRITE_CONF, settings
    from hadoop_files import HadoopFiles


@dataclass(frozen=True)
class Encoded:
    """Rows with encoded features; `vocabulary` is the path of the vocabulary file, if any."""

    rows: DataFrame
    vocabulary: str | None = None


def add_flags(parser: argparse._ArgumentGroup) -> None:
    """Add the flags of this module."""
    parser.add_argument(
        "--pipeline-config",
        metavar="FILE",
        help="the trainer's config, with fg_mode FG_NORMAL: write its features encoded as the "
        "trainer would encode them, to be trained on with fg_mode FG_NONE",
    )
    for flag, parse, value, text in (
        ("--split-values", str, "SEPARATOR", "make lists of text like 'a|b'"),
        (
            "--transform",
            feature_encoding.Transform.parse,
            "FUNCTION",
            "log1p, sqrt, zscore:MEAN:STD or minmax:MIN:MAX of numbers",
        ),
        ("--boundaries", _boundaries, "A,B", "make ids of numbers: how many of A,B are not above"),
        ("--vocabulary", _floor, "ROWS", "make ids of values that ROWS rows or more have"),
    ):
        parser.add_argument(
            flag,
            type=_column_and(parse),
            action="append",
            default=[],
            metavar=f"COLUMN={value}",
            help=f"{text}; give it again for more columns",
        )
    parser.add_argument(
        "--vocabulary-from",
        metavar="PATH",
        help="keep the ids of an earlier output's vocabulary, so that datasets of several days can "
        "be read as one; values it lacks get id 0, or with --vocabulary the next ids",
    )


def encode(
    rows: DataFrame,
    options: argparse.Namespace,
    files: HadoopFiles,
    scratch: str,
    kept: Sequence[str],
) -> Encoded:
    """`rows` with the features that the flags ask for; `rows` itself without such flags.

    A vocabulary is written to the new folder `scratch`. `kept` are the columns that must stay as
    they are: keys, labels, weights.

    Raises:
        ValueError: a column does not fit its flag, or the config cannot be used here.
    """
    rules = feature_encoding.ColumnRules(
        separators=dict(options.split_values),
        transforms=dict(options.transform),
        boundaries=dict(options.boundaries),
    )
    numbered, earlier, path = set(dict(options.vocabulary)), None, None
    if options.vocabulary_from is not None:
        earlier = vocabulary.read_vocabulary(files, options.vocabulary_from)
        numbered.update(vocabulary.columns_of(earlier))
    for name in (*rules.separators, *rules.transforms, *rules.boundaries, *sorted(numbered)):
        if name in kept:
            raise ValueError(f"column {name!r} must not be encoded: it is a key or a label")
    rows = feature_encoding.encode_columns(rows, rules)
    if numbered:
        values = vocabulary.build_vocabulary(rows, dict(options.vocabulary), earlier)
        path = _write_vocabulary(values, files, scratch)
        written = files.spark.read.parquet(path)
        for name in sorted(numbered):
            rows = vocabulary.apply_vocabulary(rows, written, name)
    if options.pipeline_config is not None:
        config = _read_config(files, options.pipeline_config)
        kept = [*kept, *pipeline_text.read_other_columns(config)]
        features = pipeline_text.read_features(config)
        rows = feature_encoding.encode_features(rows, features, kept)
    return Encoded(rows, path)


def _write_vocabulary(values: DataFrame, files: HadoopFiles, scratch: str) -> str:
    """The path of the file written."""
    with settings(files.spark, WRITE_CONF):
        values.coalesce(1).write.option("compression", "zstd").parquet(scratch)
    (name,) = (name for name in files.sizes(scratch) if name.startswith("part-"))
    return f"{scratch}/{name}"


def _read_config(files: HadoopFiles, path: str) -> str:
    if not files.is_file(path):
        raise ValueError(f"--pipeline-config must be a file, but there is none at {path!r}")
    return files.read_text(path)


def _column_and(parse: Callable[[str], Any]) -> Callable[[str], tuple[str, Any]]:
    """A parser of COLUMN=VALUE."""

    def convert(text: str) -> tuple[str, Any]:
        name, mark, value = text.partition("=")
        if not (name and mark and value):
            raise argparse.ArgumentTypeError(f"must be COLUMN=VALUE, but got {text!r}")
        try:
            return name, parse(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{name}: {error}") from None

    return convert


def _boundaries(text: str) -> tuple[float, ...]:
    numbers = feature_encoding.parse_numbers(text, ",")
    if list(numbers) != sorted(set(numbers)):
        raise ValueError(f"must be rising numbers like 18,30,45, but got {text!r}")
    return numbers


def _floor(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"must be a number of rows, at least 1, but got {text!r}")
    return int(text)
