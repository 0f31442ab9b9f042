#!/usr/bin/env bash
# Ratings of films (MovieTweetings): sessions of users, many of them of one row.
# About a minute on two cores, no GPU needed.
#
#   source .venv/bin/activate
#   bash examples/movietweetings/run.sh path/to/ratings.dat
#
#   DATA=data/movietweetings  MODEL_DIR=runs/movietweetings  RANKS=2
set -euo pipefail
RAW=$(realpath "${1:?usage: run.sh path/to/ratings.dat}")
cd "$(dirname "$0")/../.."
DATA=${DATA:-data/movietweetings}
MODEL_DIR=${MODEL_DIR:-runs/movietweetings}
RANKS=${RANKS:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

. examples/common.sh
check_run_folder "$MODEL_DIR"

say "1/3 make samples in $DATA"
python examples/movietweetings/make_samples.py --raw_path "$RAW" --output_path "$DATA/raw" \
    --overwrite
for split in train eval; do
    say "2/3 sort $split by user and time (Spark)"
    spark-submit --master "local[2]" preprocessing/jrc_sort.py \
        --input-path "$DATA/raw/$split" --output-path "$DATA/${split}_sorted" --overwrite \
        --session-column session_id --timestamp-column timestamp --tie-breaker movie \
        --num-partitions 2
done

say "3/3 train on $RANKS ranks"
rm -rf "${MODEL_DIR:?}"
torchrun --nproc_per_node="$RANKS" launch/train.py \
    --pipeline_config_path examples/movietweetings/jrc.config \
    --train_input_path "$DATA/train_sorted" --eval_input_path "$DATA/eval_sorted" \
    --model_dir "$MODEL_DIR"
echo
python examples/table.py JRC="$MODEL_DIR"
echo
echo "report      $MODEL_DIR/report.html"
