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
#   SAVE_SECONDS     to save and end in after SIGTERM (270; 30 with torch 2.11)
#   OMP_NUM_THREADS  of each rank, for PyTorch on a CPU (1)
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -gt 0 ]] || { echo "usage: bash $0 COMMAND.py FLAGS..., see its first lines" >&2; exit 2; }

GPUS=$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${SAVE_SECONDS:-270}
exec torchrun --standalone --max-restarts="${MAX_RESTARTS:-3}" \
    --nproc-per-node="${RANKS:-$((GPUS > 0 ? GPUS : 1))}" "$@"
