#!/usr/bin/env bash
# The whole system on made data: about three minutes on two cores, no GPU needed.
#
#   make demo                      sets up, then runs this
#   ROWS_AGAIN=1 make demo         makes and sorts the data again
#
#   DATA=data/synthetic  MODEL_DIR=runs/demo  RANKS=2
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA=${DATA:-data/synthetic}
MODEL_DIR=${MODEL_DIR:-runs/demo}
RANKS=${RANKS:-2}

say() { printf '\n== %s\n' "$*"; }

if [[ -n "${ROWS_AGAIN:-}" || ! -f $DATA/train_sorted/_manifest.json \
      || ! -f $DATA/eval_sorted/_manifest.json ]]; then
    say "1/4 make raw events in $DATA"
    python examples/synthetic/generate.py --output_path "$DATA/raw" --overwrite
    for split in train eval; do
        say "2/4 sort $split by session and time (Spark)"
        spark-submit --master "local[2]" preprocessing/jrc_sort.py \
            --input-path "$DATA/raw/$split" --output-path "$DATA/${split}_sorted" --overwrite \
            --session-column session_id --timestamp-column timestamp --tie-breaker position \
            --num-partitions 4
    done
else
    say "1/4 and 2/4 are done: $DATA holds the sorted data (ROWS_AGAIN=1 makes it again)"
fi

say "3/4 train on $RANKS ranks"
rm -rf "$MODEL_DIR"
torchrun --nproc_per_node="$RANKS" launch/train.py \
    --pipeline_config_path examples/synthetic/jrc.config \
    --train_input_path "$DATA/train_sorted" --eval_input_path "$DATA/eval_sorted" \
    --model_dir "$MODEL_DIR"

say "4/4 evaluation on later sessions"
python examples/table.py model="$MODEL_DIR" \
    --dataset "$DATA/eval_sorted" --truth click=p_click purchase=p_purchase
echo
echo "checkpoint  $(ls -d "$MODEL_DIR"/model.ckpt-*)"
echo "report      $MODEL_DIR/report.html"
