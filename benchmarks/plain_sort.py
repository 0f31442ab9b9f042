"""The user's plain SQL of DISTRIBUTE BY and SORT BY, for bench_sort.py: layout, and nothing else.

spark-submit benchmarks/plain_sort.py INPUT OUTPUT NUM_PARTITIONS
"""

import sys
import time

from pyspark.sql import SparkSession


def main() -> None:
    """Sort and print the seconds it took, without those in which Spark starts."""
    source, target, num_partitions = sys.argv[1:]
    spark = SparkSession.builder.appName("plain_sort").getOrCreate()
    spark.conf.set("spark.sql.shuffle.partitions", num_partitions)
    spark.conf.set("spark.sql.adaptive.enabled", "false")  # as many files as the job writes
    spark.conf.set("spark.sql.parser.quotedRegexColumnNames", "true")
    start = time.monotonic()
    spark.read.parquet(source).createOrReplaceTempView("events")
    rows = spark.sql(
        "SELECT `(ds)?+.+` FROM events DISTRIBUTE BY user_id SORT BY user_id ASC, time_stamp ASC"
    )
    rows.write.option("compression", "zstd").parquet(target)
    print(f"seconds {time.monotonic() - start:.2f}")
    spark.stop()


if __name__ == "__main__":
    main()
