#!/usr/bin/env bash
# A command on one machine, a rank per GPU.
#
# Hardware: one machine with GPUs, or cores alone.
#
#   bash launch/one_node.sh launch/train.py --pipeline_config_path my.config \
#       --train_input_path data/train --eval_input_path data/eval --model_dir runs/mine
#   bash launch/one_node.sh launch/evaluate.py --checkpoint_path runs/mine --eval_input_path data/eval
#
# Knobs:
#   RANKS            processes (the GPUs of this machine, else 1)
#   MAX_RESTARTS     of all ranks from the newest checkpoint, after one died (3)
#   SAVE_SECONDS     to save and end in after SIGTERM (270)
#   OMP_NUM_THREADS  of each rank, for PyTorch on a CPU (1)
#
# SIGTERM goes to the ranks: these save, and the status is 0. torchrun, which ends with 1 when it gets
# SIGTERM, gets it only if that is not enough: no rank is there yet, ranks that died of it (they were
# still loading their modules, or do not train) are started again, or SAVE_SECONDS are over.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -gt 0 ]] || { echo "usage: bash $0 COMMAND.py FLAGS..., see its first lines" >&2; exit 2; }

GPUS=$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${SAVE_SECONDS:-270}

ranks() { # process ids, with a space before and after each
    echo " $(cat "/proc/$torchrun/task/$torchrun/children" 2>/dev/null) "
}
stop() {
    kill -0 "$torchrun" 2>/dev/null || return 0
    local told since=$SECONDS new
    told=$(ranks) is_signalled=1
    # shellcheck disable=SC2086  # they are words
    kill -TERM $told 2>/dev/null || kill -TERM "$torchrun" 2>/dev/null || true
    while kill -0 "$torchrun" 2>/dev/null; do
        new=0
        for rank in $(ranks); do
            [[ $told == *" $rank "* ]] || new=1
        done
        if ((new || SECONDS - since >= TORCH_ELASTIC_SHUTDOWN_TIMEOUT)); then
            kill -TERM "$torchrun" 2>/dev/null || true
            return 0
        fi
        sleep 0.2
    done
}
torchrun --standalone --max-restarts="${MAX_RESTARTS:-3}" \
    --nproc-per-node="${RANKS:-$((GPUS > 0 ? GPUS : 1))}" "$@" &
torchrun=$!
trap stop TERM
trap 'is_signalled=1; kill -INT "$torchrun" 2>/dev/null || true' INT
is_signalled=1
while ((is_signalled)); do # a signal ends `wait` before torchrun has ended
    is_signalled=0 status=0
    wait "$torchrun" || status=$?
done
exit "$status"
