# The Spark job, and what a standalone cluster or Kubernetes needs to run it. The context is the
# repository's root:
#
#   docker build -f docker/spark.Dockerfile -t sessionwise/spark-job:0.1.0 .
#
# The container checks Java and Spark, then becomes its command, for instance `spark-submit ...`;
# `driver` and `executor` are what Spark on Kubernetes starts: docker/spark_entry.sh.

# A newer date brings newer Debian packages.
ARG BASE_IMAGE=debian:bookworm-20250520-slim


FROM ${BASE_IMAGE} AS base
RUN apt-get update \
    && apt-get upgrade --yes \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app


# Makes /opt/venv, which has no pip. Nothing else of this stage goes further.
FROM base AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG PIP_EXTRA_INDEX_URL
ARG PYSPARK_VERSION=4.1.4
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-compile "pyspark==${PYSPARK_VERSION}" \
    && /opt/venv/bin/pip uninstall --yes pip setuptools


FROM base AS spark-job
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless procps \
    && rm -rf /var/lib/apt/lists/*
# The numbers of the owner of the mounted folder. They need a name: Hadoop refuses a user without.
ARG UID=1000
ARG GID=1000
RUN groupadd --non-unique --gid "${GID}" sessionwise \
    && useradd --no-log-init --non-unique --uid "${UID}" --gid "${GID}" --create-home sessionwise \
    && install --directory --owner=sessionwise --group=sessionwise /data
COPY --from=builder /opt/venv /opt/venv
COPY docker/check.py docker/spark_entry.sh docker/
COPY preprocessing preprocessing
ENV PATH=/opt/venv/bin:${PATH} \
    PYSPARK_PYTHON=/opt/venv/bin/python \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SPARK_HOME=/opt/venv/lib/python3.11/site-packages/pyspark \
    SPARK_WORKER_DIR=/tmp/spark-work
USER sessionwise
ENTRYPOINT ["/app/docker/spark_entry.sh"]
