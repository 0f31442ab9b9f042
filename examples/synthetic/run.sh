#!/usr/bin/env bash
# The whole system on made data: about a minute on two cores, no GPU needed.
#
#   make demo                 sets up, then runs this
#   AGAIN=1 make demo         makes and sorts the data again
#
#   DATA=data/synthetic  MODEL_DIR=runs/demo  RANKS=2  SESSIONS=20000
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA=${DATA:-data/synthetic}
MODEL_DIR=${MODEL_DIR:-runs/demo}
RANKS=${RANKS:-2}
SESSIONS=${SESSIONS:-20000}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

. examples/common.sh
check_run_folder "$MODEL_DIR"

# Says what the sorted data was made from. Written last, so data without it is unfinished.
STAMP=$DATA/made_from
code=$(cat examples/synthetic/{run.sh,generate.py} | sha256sum)
made_from="SESSIONS=$SESSIONS code=${code%% *}"

if [[ -n "${AGAIN:-}" || $(cat "$STAMP" 2>/dev/null) != "$made_from" \
      || ! -f $DATA/train_sorted/_manifest.json || ! -f $DATA/eval_sorted/_manifest.json ]]; then
    say "1/4 make raw events in $DATA"
    python examples/synthetic/generate.py --output_path "$DATA/raw" --num_sessions "$SESSIONS" \
        --overwrite
    # Without its manifest a data set is refused by all who read it: no old half beside a new one.
    rm -f "$STAMP" "$DATA"/{train,eval}_sorted/_manifest.json
    for split in train eval; do
        say "2/4 sort $split by session and time (Spark)"
        spark-submit --master "local[2]" preprocessing/jrc_sort.py \
            --input-path "$DATA/raw/$split" --output-path "$DATA/${split}_sorted" --overwrite \
            --session-column session_id --timestamp-column timestamp --tie-breaker position \
            --num-partitions 4 --label-columns click,purchase
    done
    echo "$made_from" > "$STAMP"
else
    say "1/4 and 2/4 are done: $DATA holds the sorted data (AGAIN=1 makes it again)"
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
echo "checkpoint  $(ls -d "$MODEL_DIR"/model.ckpt-* | sort -V | tail -n 1)"
echo "report      $MODEL_DIR/report.html"
