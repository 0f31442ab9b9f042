"""What went wrong in Spark, in one line instead of pages of Java stack."""

from __future__ import annotations

import logging
import re

from pyspark.sql import SparkSession

_SHOWN_CHARACTERS = 400
# ": java.io.IOException: text" or "Caused by: ...", the text up to the stack or the next cause.
_THROWN = re.compile(
    r"^(?:: |Caused by: )([\w.$]+)(?:: (.*?))?(?=\n\s+at |\n\t|\nCaused by: |\Z)",
    re.DOTALL | re.MULTILINE,
)


def silence_stack_traces(spark: SparkSession) -> None:
    """What fails is raised here and told in one line; Java and PySpark would log it at length."""
    spark.sparkContext.setLogLevel("OFF")
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        logging.getLogger(name).disabled = True


def spark_reason(error: Exception) -> str:
    """The first and last reason in a Spark or Java exception, on one line without stack traces."""
    text = str(error).strip() or type(error).__name__
    thrown = [_shown_reason(*match.groups()) for match in _THROWN.finditer(text)]
    if not text.startswith("An error occurred") or not thrown:  # from Python, or parsed by PySpark
        thrown.insert(0, text.splitlines()[0].strip())
    return "; ".join(dict.fromkeys([thrown[0], thrown[-1]]))


def _shown_reason(java_class: str, message: str | None) -> str:
    text = " ".join((message or "").split())
    if len(text) > _SHOWN_CHARACTERS:  # long lists of columns stand in the middle
        text = f"{text[: _SHOWN_CHARACTERS // 2]} ... {text[-_SHOWN_CHARACTERS // 2 :]}"
    if text.startswith("["):  # Spark's error class, which says more than Java's
        return text
    name = java_class.rpartition(".")[2]
    return f"{name}: {text}" if text else name
