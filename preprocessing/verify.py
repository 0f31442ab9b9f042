"""Prove from its files that a session dataset is right: the job before it publishes, you later.

One pass over the files, one task per file: every session in exactly one file, contiguous, in the
order of time and tie-breakers (session_runs.py); the index lists exactly these sessions
(session_index.py); rows, sessions and content of each file are those that the manifest states.

The driver holds a few numbers per file and per length of session, none per session.

Exit status: 0 the dataset is right; 1 it is not, with what and where; 2 a wrong flag.

    spark-submit preprocessing/verify.py train
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

if __package__:  # imported as preprocessing.verify
    from preprocessing import (
        dataset_facts,
        dataset_format,
        session_index,
        session_runs,
        spark_errors,
    )
    from preprocessing.dataset_facts import FileFacts, Opened, SessionFacts
    from preprocessing.dataset_writer import settings
    from preprocessing.hadoop_files import HadoopFiles, escape_glob
    from preprocessing.session_layout import SortKeys
else:  # run by spark-submit, see jrc_sort.py
    import dataset_facts
    import dataset_format
    import session_index
    import session_runs
    import spark_errors
    from dataset_facts import FileFacts, Opened, SessionFacts
    from dataset_writer import settings
    from hadoop_files import HadoopFiles, escape_glob
    from session_layout import SortKeys

INDEX = dataset_format.INDEX_FOLDER


@dataclass(frozen=True)
class Verified:
    """A dataset that was found right.

    `colliding_ids` are values of the hashed session column that several sessions share.
    """

    manifest: dataset_format.Manifest
    sessions: SessionFacts
    colliding_ids: int


def verify_and_index(
    files: HadoopFiles,
    folder: str,
    schema: T.StructType,
    keys: SortKeys,
    labels: Sequence[str] = (),
) -> Verified:
    """Check the data files in `folder` as written, add their index, and describe both.

    `folder` holds data files and nothing else, of at least one row; the index is written to
    `folder`/_index, by way of the new folder `folder`-index, which is left empty of files.

    Raises:
        RuntimeError: a session is not whole, contiguous, in order; or the index is not right.
    """
    sizes = files.sizes(folder)
    names = sorted(sizes)
    with dataset_facts.open_runs(files, folder, names, schema, keys, labels) as found:
        per_file = dataset_facts.facts_per_file(found)
        problems = _layout_problems(found, per_file)
        if not problems:
            index = f"{folder}/{INDEX}"
            scratch = f"{folder}-index"
            session_index.write_index(found.runs, files, scratch, index, found.file_names)
            problems = _index_problems(files, folder, per_file)
        if problems:
            raise RuntimeError(
                "verification of the written files failed, so nothing was published: "
                f"{'; '.join(problems)}. Run the job again; if this repeats, report it with this "
                "message"
            )
        sessions = dataset_facts.session_facts(found, labels)
        colliding_ids = session_runs.colliding_ids(found.runs) if keys.session_id else 0
    manifest = dataset_facts.describe(sizes, schema, keys, per_file, sessions)
    return Verified(manifest, sessions, colliding_ids)


def check_dataset(files: HadoopFiles, folder: str) -> dataset_format.Manifest:
    """Check the published dataset at `folder` against its manifest.

    Raises:
        ValueError: there is no manifest, or it contradicts itself (dataset_format.DatasetError).
        RuntimeError: what is wrong with the dataset, and where.
    """
    source = f"{folder}/{dataset_format.MANIFEST_NAME}"
    if not files.exists(source):
        raise ValueError(
            f"{folder!r} must be a session dataset, but has no {dataset_format.MANIFEST_NAME}; "
            "check the path, or run preprocessing/jrc_sort.py"
        )
    manifest = dataset_format.Manifest.from_json(files.read_text(source), source)
    problems = _file_problems(files, folder, manifest)
    problems = problems or _rows_problems(files, folder, manifest)
    if problems:
        raise RuntimeError(f"{folder} is damaged: {'; '.join(problems)}")
    return manifest


def _layout_problems(found: Opened, per_file: Mapping[str, FileFacts]) -> list[str]:
    broken = sum(facts.broken for facts in per_file.values())
    if not broken:
        return []
    shown = session_runs.find_violations(found.runs, found.file_names)
    more = broken - len(shown)
    return [*shown, *([f"and {more} more sessions"] if more else [])]


def _index_problems(
    files: HadoopFiles, folder: str, per_file: Mapping[str, FileFacts]
) -> list[str]:
    expected = {
        name: (facts.rows, facts.sessions, facts.entries_hash) for name, facts in per_file.items()
    }
    return session_index.check_index(files, f"{folder}/{INDEX}", expected)


# ------------------------------------------------------------------ against the manifest


def _file_problems(files: HadoopFiles, folder: str, manifest: dataset_format.Manifest) -> list[str]:
    sizes = files.sizes(folder)
    index = files.sizes(f"{folder}/{INDEX}") if files.exists(f"{folder}/{INDEX}") else {}
    problems = []
    for file in manifest.files:
        if file.name not in sizes:
            problems.append(f"{file.name} is missing")
        elif sizes[file.name] != file.bytes:
            problems.append(f"{file.name} must have {file.bytes} bytes, but has {sizes[file.name]}")
        if file.name not in index:
            problems.append(f"{INDEX}/{file.name} is missing")
    return problems


def _rows_problems(files: HadoopFiles, folder: str, manifest: dataset_format.Manifest) -> list[str]:
    sizes = {file.name: file.bytes for file in manifest.files}
    first = escape_glob(f"{folder}/{manifest.files[0].name}")
    schema = files.spark.read.parquet(first).schema
    columns = dataset_facts.columns_of(schema)
    if columns != manifest.schema:
        return [f"the columns of the files must be {manifest.schema}, but are {columns}"]
    identity = manifest.identity_columns or manifest.session_columns
    keys = SortKeys(
        session=manifest.session_columns[0],
        timestamp=manifest.timestamp_column,
        tie_breakers=manifest.tie_breakers,
        identity=identity,
        partition_by=identity,
    )
    with dataset_facts.open_runs(files, folder, list(sizes), schema, keys) as found:
        per_file = dataset_facts.facts_per_file(found)
        problems = _layout_problems(found, per_file) + _content_problems(manifest, per_file)
        if problems:
            return problems
        sessions = dataset_facts.session_facts(found, with_nulls=False)
    described = dataset_facts.describe(sizes, schema, keys, per_file, sessions)
    return _index_problems(files, folder, per_file) + _manifest_problems(manifest, described)


def _content_problems(
    manifest: dataset_format.Manifest, per_file: Mapping[str, FileFacts]
) -> list[str]:
    problems = []
    for file in manifest.files:
        found = per_file[file.name]
        for what in ("rows", "sessions"):
            stated, counted = getattr(file, what), getattr(found, what)
            if stated != counted:
                problems.append(f"{file.name} must have {stated} {what}, but has {counted}")
        if file.content_hash not in (None, found.content_hash):
            problems.append(f"{file.name} holds other rows than the job wrote")
    return problems


def _manifest_problems(
    manifest: dataset_format.Manifest, found: dataset_format.Manifest
) -> list[str]:
    stated: dict[str, object] = {"statistics": manifest.statistics}
    if all(file.content_hash is not None for file in manifest.files):  # else of an older release
        stated["fingerprint"] = manifest.fingerprint
    return [
        f"the manifest states {what} {value!r}, but the files have {getattr(found, what)!r}"
        for what, value in stated.items()
        if value != getattr(found, what)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Own the Spark session around `check_dataset`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="verify.py", description="Check a session dataset.", allow_abbrev=False
    )
    parser.add_argument("path", help="folder of the dataset, on any file system Spark knows")
    path = parser.parse_args(argv).path
    manifest, reason, spark = None, "", None
    try:
        spark = SparkSession.builder.appName("verify").getOrCreate()
        spark_errors.silence_stack_traces(spark)
        files = HadoopFiles(spark)
        with settings(spark, {"spark.sql.session.timeZone": "UTC"}):
            manifest = check_dataset(files, files.qualify(path))
    except (PySparkException, Py4JError) as error:
        reason = f"Spark failed: {spark_errors.spark_reason(error)}"
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error)
    finally:
        if spark:
            with suppress(Exception):  # a driver that died cannot be stopped, nor tells more
                spark.stop()
    if manifest is None:
        print(f"verify.py: error: {' '.join(reason.split())}", file=sys.stderr)
        return 1
    facts = manifest.statistics
    print(f"right: {facts.rows} rows, {facts.sessions} sessions, {len(manifest.files)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
