"""Lay events out by session: each whole, contiguous and in time order, as JRC training needs it.

The job reads events, checks them, writes the session dataset of `dataset_format.py` into a hidden
folder of its final place, reads back what it wrote, and publishes it only when every session is
whole and in order. It does the work of

    CREATE TABLE out AS SELECT `(ds)?+.+` FROM in
    DISTRIBUTE BY user_id SORT BY user_id ASC, time_stamp ASC

and sets for itself what in a cluster's defaults could cut, merge, skip or shift: records per file,
adaptive execution, Parquet's types, corrupt and missing files (an error), and the time zone (UTC
for the text of CSV and JSON timestamps that name none). It needs Spark 4 (tested: 4.1) and on
the driver Python 3.11 or later; the executors run no Python. The same input rows and number of
partitions give the same rows in the same files in the same order.

It can also build sessions (`--session-gap`), cap them (`--max-session-rows`), write `train/` and
`eval/` (`--eval-from`, `--eval-fraction`), and set bad rows aside (`--on-bad-rows`). No row is
dropped unless a flag says so, and each that is stands in the report.

A column that stands in folder names (`events/ds=1/...`) is read when --input-path is the folder
above them (`events`), and is not when it is one of them (`events/ds=1`).

Exit status: 0 published; 1 an error, with the output as it was before; 2 a wrong flag.

Submit it:

    spark-submit preprocessing/jrc_sort.py --input-path events --output-path train \\
        --session-column user_id --timestamp-column time_stamp --columns-regex '(ds)?+.+'

In cluster mode the sibling modules must travel along; from the folder of this file:

    SIBLINGS=$(ls *.py | grep -v -e jrc_sort -e __init__ | paste -sd,)
    spark-submit --master yarn --deploy-mode cluster --py-files $SIBLINGS \\
        jrc_sort.py --input-path hdfs:///events --output-path hdfs:///train \\
        --session-column user_id --timestamp-column time_stamp --columns-regex '(ds)?+.+'
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

if __package__:  # imported as preprocessing.jrc_sort
    from preprocessing import (
        bad_rows,
        dataset_format,
        dataset_writer,
        encoding_flags,
        event_columns,
        event_source,
        hadoop_files,
        job_flags,
        layout_page,
        layout_report,
        publication,
        session_layout,
        spark_errors,
        verify,
    )
else:  # run by spark-submit: the siblings lie in the script's folder, or came with --py-files
    import bad_rows
    import dataset_format
    import dataset_writer
    import encoding_flags
    import event_columns
    import event_source
    import hadoop_files
    import job_flags
    import layout_page
    import layout_report
    import publication
    import session_layout
    import spark_errors
    import verify


REPORT_JSON, REPORT_PAGE = "_report.json", "_report.html"


@dataclass(frozen=True)
class JobReport:
    """What the job did; `manifests` by dataset, `report` as in `_report.json`."""

    manifests: Mapping[str, dataset_format.Manifest]
    report: Mapping[str, Any]
    output_path: str

    @property
    def manifest(self) -> dataset_format.Manifest:
        """Of the only dataset, or of train."""
        return next(iter(self.manifests.values()))

    def __str__(self) -> str:
        return f"{layout_report.to_text(self.report)}\n{'output':<13} {self.output_path}"


def run_job(spark: SparkSession, options: argparse.Namespace) -> JobReport:
    """Read, check, lay out, verify and publish, as `options` of `parse_arguments` say.

    The session's time zone is UTC while it runs.

    Raises:
        ValueError: the flags or the data are at fault; nothing was published.
        RuntimeError: what was written is not what it must be; nothing was published.
    """
    with dataset_writer.settings(spark, {"spark.sql.session.timeZone": "UTC"}):
        files = hadoop_files.HadoopFiles(spark)
        output = check_output_path(files, options.output_path)
        inputs = list(options.input_path)
        if options.input_format != event_source.TABLE:
            inputs = event_source.expand_paths(files, inputs)
            check_apart(inputs, output)
        datasets = session_layout.SPLITS if job_flags.split_rule(options) else ("",)
        with publication.locked_output(files, output, datasets, options.overwrite) as held:
            return _run_phases(spark, options, inputs, held)


def _run_phases(
    spark: SparkSession,
    options: argparse.Namespace,
    inputs: Sequence[str],
    held: publication.Output,
) -> JobReport:
    rules, split = job_flags.session_rules(options), job_flags.split_rule(options)
    seconds: dict[str, float] = {}
    with _timed(seconds, "check"):
        events = read_events(spark, options, inputs, rules, split)
        bad = bad_rows.BadRows(events, rules.columns, rules.timestamp, rules.timestamp_unit)
        facts = bad.count()
        event_columns.check_not_empty(facts.rows == 0)
        bad_rows.check_some_good_rows(facts)
        if options.on_bad_rows == "fail":
            bad_rows.check_no_bad_rows(facts)
        num_partitions = options.num_partitions or job_flags.default_num_partitions(
            event_source.estimated_bytes(events), options.target_file_size
        )
    with _timed(seconds, "sort and write"):
        if facts.bad_rows:
            dataset_writer.write_quarantine(bad.bad(), held)
        encoded = encode_features(bad.good() if facts.bad_rows else events, options, held)
        layout = session_layout.lay_out(
            encoded.rows, rules, num_partitions, split, facts.sort_prefix
        )
        layout_report.check_labels(layout.schema, options.label_columns)
        written = dataset_writer.write_rows(layout, held, options.row_group_bytes)
        if encoded.vocabulary:  # moved when the rows, which are encoded by it, are written
            dataset_writer.add_vocabulary(encoded.vocabulary, held)
    with _timed(seconds, "verify and index"):
        verified = {
            dataset: verify.verify_and_index(
                held.files, folder, layout.schema, layout.keys, options.label_columns
            )
            for dataset, folder in written.items()
        }
        manifests = {dataset: found.manifest for dataset, found in verified.items()}
        counts = session_layout.session_counts(layout)
        dataset_writer.check_counts(facts, counts, list(manifests.values()), rules)
    with _timed(seconds, "publish"):
        report = layout_report.summarize(verified, _job_facts(facts, counts, rules, seconds))
        pages = {
            REPORT_JSON: layout_report.to_json(report),
            REPORT_PAGE: layout_page.to_html(report),
        }
        beside = ("", f"{held.staging}/{dataset_writer.BESIDE}")
        held.publish([beside, *written.items()], manifests, pages)
    return JobReport(manifests, report, options.output_path)


def encode_features(
    rows: DataFrame, options: argparse.Namespace, held: publication.Output
) -> encoding_flags.Encoded:
    """`rows` with the features encoded that the flags name; a vocabulary is staged."""
    kept = [name for _, name in job_flags.session_rules(options).flags]
    kept += [options.split_column] if options.split_column else []
    kept += options.label_columns
    return encoding_flags.encode(rows, options, held.files, f"{held.staging}/vocabulary", kept)


def _job_facts(
    facts: bad_rows.InputFacts,
    counts: session_layout.SessionCounts | None,
    rules: session_layout.SessionRules,
    seconds: Mapping[str, float],
) -> layout_report.JobFacts:
    dropped = counts.dropped_rows if counts else 0
    what = "older rows" if rules.long_sessions == "newest" else "rows"
    reason = f"{what} of sessions of more than {rules.max_rows} rows"
    return layout_report.JobFacts(
        input_rows=facts.rows,
        bad_rows=facts.bad_rows,
        dropped_rows={reason: dropped} if dropped else {},
        long_sessions=counts.long_sessions if counts else 0,
        long_policy=rules.long_sessions if rules.max_rows else None,
        seconds=seconds,
    )


def read_events(
    spark: SparkSession,
    options: argparse.Namespace,
    inputs: Sequence[str],
    rules: session_layout.SessionRules,
    split: session_layout.SplitRule | None,
) -> DataFrame:
    """The chosen rows and columns of the input, with key columns that can be keys.

    Raises:
        ValueError: they cannot be read, are none, or lack a key column.
    """
    if options.input_format == event_source.TABLE:
        source = event_source.read_table(spark, inputs, options.schema)
    else:
        source = event_source.read_files(spark, inputs, options.input_format, options.schema)
    chosen = event_source.choose_rows(source, options.where)
    if options.input_format in event_source.INFERRED_FORMATS:  # without rows they have no types
        event_columns.check_not_empty(chosen.isEmpty())
    events = event_columns.select_columns(chosen, options.columns_regex, options.drop_columns)
    event_columns.check_schema(events, rules, source.columns, split)
    session_layout.check_times(events.schema, rules, split)
    return events


def check_output_path(files: hadoop_files.HadoopFiles, output_path: str) -> str:
    """`output_path` as an absolute URI.

    Raises:
        ValueError: it has glob characters.
    """
    output = files.qualify(output_path)
    if hadoop_files.has_glob(output):
        raise ValueError(
            f"--output-path must be free of []{{}}*?\\, which Spark's readers take for a pattern, "
            f"but got {output!r}; choose another"
        )
    return output


def check_apart(inputs: Sequence[str], output: str) -> None:
    """Check that output and input cannot clash; all are absolute URIs.

    Raises:
        ValueError: the output holds an input or lies in one.
    """
    for path in inputs:
        if f"{path}/".startswith(f"{output}/") or f"{output}/".startswith(f"{path}/"):
            raise ValueError(
                f"--output-path must lie apart from the input, but {output!r} and the input "
                f"{path!r} are the same or inside one another; choose another output"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Own the Spark session around `run_job`; returns the exit status."""
    options = job_flags.parse_arguments(argv)
    report, reason, spark = None, "", None
    try:
        spark = SparkSession.builder.appName("jrc_sort").getOrCreate()
        spark_errors.silence_stack_traces(spark)
        report = run_job(spark, options)
    except (PySparkException, Py4JError) as error:
        started = "Spark failed" if spark else "Spark did not start (it needs Java 17 or later)"
        reason = f"{started}: {spark_errors.spark_reason(error)}"
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error)
    except Exception as error:
        reason = f"unexpected {type(error).__name__}: {spark_errors.spark_reason(error)}"
    finally:
        if spark:
            with suppress(Exception):  # a driver that died cannot be stopped, nor tells more
                spark.stop()  # before any message, which Spark's progress bar would write over
    if report is None:
        print(f"jrc_sort.py: error: {' '.join(reason.split())}", file=sys.stderr)
        return 1
    print(report)
    return 0


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[phase] = time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
