#!/usr/bin/env bash
# Hotel search sessions (RecSys Challenge 2019): JRC beside plain cross-entropy on the same samples.
# About four minutes on two cores, no GPU needed.
#
#   make trivago RAW=path/to/trivago_actions.parquet
#
#   DATA=data/trivago  RUNS=runs/trivago  RANKS=2
set -euo pipefail
RAW=$(realpath "${1:?usage: run.sh path/to/trivago_actions.parquet}")
cd "$(dirname "$0")/../.."
DATA=${DATA:-data/trivago}
RUNS=${RUNS:-runs/trivago}
RANKS=${RANKS:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

. examples/common.sh
for loss in jrc bce; do check_run_folder "$RUNS/$loss"; done

say "1/3 make samples in $DATA"
python examples/trivago/make_samples.py --raw_path "$RAW" --output_path "$DATA/raw" --overwrite
for split in train eval; do
    say "2/3 sort $split by session and time (Spark)"
    spark-submit --master "local[2]" preprocessing/jrc_sort.py \
        --input-path "$DATA/raw/$split" --output-path "$DATA/${split}_sorted" --overwrite \
        --session-column session_id --timestamp-column timestamp \
        --tie-breaker step --tie-breaker position --num-partitions 4
done

for loss in jrc bce; do
    say "3/3 train with $loss on $RANKS ranks"
    rm -rf "${RUNS:?}/$loss"
    torchrun --nproc_per_node="$RANKS" launch/train.py \
        --pipeline_config_path "examples/trivago/$loss.config" \
        --train_input_path "$DATA/train_sorted" --eval_input_path "$DATA/eval_sorted" \
        --model_dir "$RUNS/$loss"
done
echo
python examples/table.py JRC="$RUNS/jrc" BCE="$RUNS/bce"
echo
echo "reports     $RUNS/jrc/report.html  $RUNS/bce/report.html"
