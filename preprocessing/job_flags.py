"""Command line flags of jrc_sort.py."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

if __package__:  # imported as preprocessing.job_flags
    from preprocessing import (
        dataset_format,
        encoding_flags,
        event_source,
        session_layout,
        timestamps,
    )
else:  # run by spark-submit, see jrc_sort.py
    import dataset_format
    import encoding_flags
    import event_source
    import session_layout
    import timestamps

MIB = 1 << 20
DEFAULT_FILE_BYTES = 128 * MIB
DEFAULT_ROW_GROUP_BYTES = 16 * MIB
MIN_PARTITIONS = 8
_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": MIB, "GB": 1 << 30, "TB": 1 << 40}

Value = TypeVar("Value")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line flags; a wrong one exits with status 2."""
    parser = argparse.ArgumentParser(
        prog="jrc_sort.py",
        description="Lay events out by session and time, for training with whole sessions.",
        allow_abbrev=False,
    )
    _add_input_flags(parser.add_argument_group("input"))
    _add_session_flags(parser.add_argument_group("sessions"))
    _add_split_flags(parser.add_argument_group("train and eval"))
    encoding_flags.add_flags(parser.add_argument_group("features"))
    _add_output_flags(parser.add_argument_group("output"))
    options = parser.parse_args(argv)
    if options.split_column is not None and options.eval_fraction is None:
        parser.error("--split-column must go with --eval-fraction")
    if options.eval_from is not None and options.eval_fraction is not None:
        parser.error("--eval-from and --eval-fraction are two ways to split; give one of them")
    if options.long_sessions is not None and options.max_session_rows is None:
        parser.error("--long-sessions must go with --max-session-rows")
    return options


def session_rules(options: argparse.Namespace) -> session_layout.SessionRules:
    """What the flags say of sessions and their order."""
    return session_layout.SessionRules(
        columns=tuple(options.session_column),
        timestamp=options.timestamp_column,
        tie_breakers=tuple(options.tie_breaker),
        timestamp_unit=options.timestamp_unit,
        gap_seconds=options.session_gap,
        max_rows=options.max_session_rows,
        long_sessions=options.long_sessions or "cut",
        id_column=options.session_id_column,
    )


def split_rule(options: argparse.Namespace) -> session_layout.SplitRule | None:
    """What the flags say of train and eval; None for one dataset."""
    if options.eval_from is None and options.eval_fraction is None:
        return None
    return session_layout.SplitRule(options.eval_from, options.eval_fraction, options.split_column)


def default_num_partitions(num_bytes: int, target_file_bytes: int) -> int:
    """Output files for `num_bytes` of input, a power of two.

    So that the few bytes that the same rows take more or less in other files do not change it.
    """
    wanted = max(MIN_PARTITIONS, -(-num_bytes // target_file_bytes))
    return min(1 << (wanted - 1).bit_length(), dataset_format.MAX_FILES)


def _add_input_flags(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--input-path",
        action="append",
        required=True,
        metavar="PATH",
        help="file, folder or glob, on any file system Spark knows; give it again for more. "
        "A column of folder names like ds=1 is read only from the folder above them. With "
        "--input-format table the name of a table or view",
    )
    parser.add_argument("--input-format", choices=event_source.FORMATS, default="parquet")
    parser.add_argument(
        "--schema",
        metavar="DDL",
        help="columns of CSV or JSON input, like 'user_id STRING, ts BIGINT'; without it types "
        "are inferred, and CSV reads '007' as the number 7",
    )
    parser.add_argument(
        "--where", metavar="SQL", help="rows to take, like \"ds = '2026-01-31'\"; default: all"
    )
    parser.add_argument(
        "--columns-regex",
        metavar="REGEX",
        help="keep only columns whose whole name matches this Java regex, as Spark and Hive do "
        "for a quoted regex in a select list; '(ds)?+.+' keeps all but ds",
    )
    parser.add_argument(
        "--drop-columns", type=_names, default=[], metavar="A,B", help="columns to leave out"
    )
    parser.add_argument(
        "--label-columns",
        type=_names,
        default=[],
        metavar="A,B",
        help="columns of 0 and 1 of which the report says how often they are 1, and how many "
        "sessions have both",
    )
    parser.add_argument(
        "--on-bad-rows",
        choices=("fail", "quarantine"),
        default="fail",
        help="what to do with rows that have no session, no time, or a time before 1970 or from "
        "2100 on: fail, or set them aside in OUTPUT/_quarantine with the reason; "
        "default: %(default)s",
    )


def _add_session_flags(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--session-column",
        type=_names,
        required=True,
        metavar="A[,B]",
        help="rows with the same values are one session, e.g. session_id or user_id,date",
    )
    parser.add_argument(
        "--session-gap",
        type=_flag_type(timestamps.parse_duration),
        metavar="30m",
        help="build sessions: --session-column is the user, and a new session starts after a "
        "pause of more than this",
    )
    parser.add_argument(
        "--session-id-column",
        default=session_layout.DEFAULT_ID_COLUMN,
        metavar="NAME",
        help="column to add with xxhash64 of what tells sessions apart, where that is text, "
        "several columns, or built here; default: %(default)s",
    )
    parser.add_argument(
        "--max-session-rows", type=_positive, metavar="N", help="cap on the rows of a session"
    )
    parser.add_argument(
        "--long-sessions",
        choices=session_layout.POLICIES,
        help="what to do with sessions above the cap: cut into consecutive sessions, keep the "
        "newest rows, or drop; default: cut",
    )
    parser.add_argument(
        "--timestamp-column",
        required=True,
        metavar="NAME",
        help="order inside a session: a number of any unit, a timestamp or a date",
    )
    parser.add_argument(
        "--timestamp-unit",
        choices=tuple(timestamps.UNITS_PER_SECOND),
        help="of a timestamp column of numbers, where a flag above or below has to know",
    )
    parser.add_argument(
        "--tie-breaker",
        action="append",
        default=[],
        metavar="NAME",
        help="orders rows of equal time; give it again for more. Rows that are still equal are "
        "ordered by a hash of their content",
    )


def _add_split_flags(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--eval-from",
        metavar="TIME",
        help="write OUTPUT/train and OUTPUT/eval: a session is for eval when its last row is at "
        "this time or later, so that train has no row from then on. A date or time (UTC where "
        "it names no zone), or a number for a column of numbers",
    )
    parser.add_argument(
        "--eval-fraction",
        type=_fraction,
        metavar="F",
        help="write OUTPUT/train and OUTPUT/eval: this share of the sessions, by a hash, for eval",
    )
    parser.add_argument(
        "--split-column",
        metavar="NAME",
        help="choose by the hash of this column, e.g. user_id, in the session's first row; "
        "default: of the session",
    )


def _add_output_flags(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--output-path", required=True, metavar="PATH", help="folder to write")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the session dataset at --output-path once the new one is complete",
    )
    parser.add_argument(
        "--num-partitions",
        type=_partition_count,
        metavar="N",
        help=f"output files, at most; default: by --target-file-size, at least {MIN_PARTITIONS}",
    )
    parser.add_argument(
        "--target-file-size",
        type=_flag_type(parse_size),
        default=DEFAULT_FILE_BYTES,
        metavar="128MB",
        help="input bytes per output file, at most; default: 128MB",
    )
    parser.add_argument(
        "--row-group-bytes",
        type=_flag_type(parse_size),
        default=DEFAULT_ROW_GROUP_BYTES,
        metavar="16MB",
        help="size of a Parquet row group, what a reader holds at a time; default: 16MB",
    )


def parse_size(text: str) -> int:
    """Bytes of `16MB`, `1GB` or a plain number; a KB has 1024.

    Raises:
        ValueError: `text` is none of these, or zero.
    """
    match = re.fullmatch(r"(-?\d+)\s*([KMGT]?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"must be a size like 16MB, 1GB or a number of bytes, but got {text!r}")
    value = int(match[1]) * _UNITS[(match[2] or "").upper()]
    if value < 1:
        raise ValueError(f"must be at least 1, but got {text}")
    return value


def _flag_type(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """`parse` with its message shown by argparse, which hides those of ValueError."""

    def convert(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"must be names like a,b, but got {text!r}")
    return names


def _positive(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, but got {text!r}")
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but got {text}")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, but got {text!r}")
    return value


def _partition_count(text: str) -> int:
    value = _positive(text)
    if value > dataset_format.MAX_FILES:
        raise argparse.ArgumentTypeError(
            f"must be at most {dataset_format.MAX_FILES}, but got {value}"
        )
    return value
