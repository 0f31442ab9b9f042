#!/usr/bin/env bash
# Check Java and Spark, on stderr, then become the command; without one, the check is all.
#
#   docker run --rm sessionwise/spark-job:0.1.0
#   docker run --rm -v "$PWD/data:/data" sessionwise/spark-job:0.1.0 \
#       spark-submit --master 'local[*]' preprocessing/jrc_sort.py ...
#
# `driver FLAGS...` and `executor` are what Spark on Kubernetes (4.1) starts, with its SPARK_...
# variables. CHECK=0 leaves the check out: it takes some seconds, at each start.
set -euo pipefail

case "${1:-}" in
driver)
    shift
    exec spark-submit --deploy-mode client \
        --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" \
        --conf "spark.executorEnv.SPARK_DRIVER_POD_IP=$SPARK_DRIVER_BIND_ADDRESS" "$@"
    ;;
executor)
    # SPARK_JAVA_OPT_0, SPARK_JAVA_OPT_1, ...: one argument of Java each, in that order.
    options=()
    for ((i = 0; ; i++)); do
        name=SPARK_JAVA_OPT_$i
        [[ -v $name ]] || break
        options+=("${!name}")
    done
    exec java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
        -cp "${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}$SPARK_HOME/jars/*:$PWD" \
        org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
        --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" \
        --cores "$SPARK_EXECUTOR_CORES" --app-id "$SPARK_APPLICATION_ID" \
        --hostname "$SPARK_EXECUTOR_POD_IP" --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" \
        --podName "$SPARK_EXECUTOR_POD_NAME"
    ;;
esac

if [[ ${CHECK:-1} != 0 || $# -eq 0 ]]; then
    python "$(dirname "$0")/check.py" spark-job >&2
fi
[[ $# -eq 0 ]] || exec "$@"
