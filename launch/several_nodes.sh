#!/usr/bin/env bash
# A command on several machines: start this on each of them, in any order.
#
# Hardware: NODES machines with as many GPUs each (or none). They reach node 0 by TCP, and see the
# same files under the same paths: the data, and model_dir, which any rank may read after a restart.
#
#   export MASTER_ADDR=node-a NODES=2                                       # on both machines
#   NODE_RANK=0 bash launch/several_nodes.sh launch/train.py \
#       --pipeline_config_path my.config --train_input_path /data/train \
#       --model_dir /data/runs/mine --continue_train                        # on node-a
#   NODE_RANK=1 bash launch/several_nodes.sh launch/train.py ...            # the same on the other
#
# A rank that dies is started again, with all others, from the newest checkpoint. So is a machine:
# start its command again (Kubernetes and Compose do), the others wait for it. After SIGTERM to one
# machine all save first, then wait for it; to end the job, send SIGTERM to all. Node 0 keeps the
# rendezvous: if it goes, all end, and all are started again. --continue_train is for such starts.
#
# Knobs; the names with PET_ are Kubeflow Trainer's, and are taken where ours are not set:
#   MASTER_ADDR, PET_MASTER_ADDR   node 0, by name or address; no default
#   MASTER_PORT, PET_MASTER_PORT   its port for the rendezvous (29400)
#   NODES, PET_NNODES              how many machines (1), or MIN:MAX: goes on with MIN, see LAST_CALL
#   NODE_RANK, PET_NODE_RANK       0 on node 0, any other number elsewhere; no default
#   RANKS_PER_NODE, PET_NPROC_PER_NODE             (the GPUs of this machine, else 1)
#   JOB_ID                         the same on all machines, another one per job (sessionwise)
#   MAX_RESTARTS                   after a rank or a machine went (10)
#   SAVE_SECONDS                   to save and end in after SIGTERM (270; 30 with torch 2.11)
#   JOIN_SECONDS                   to wait for machines (600)
#   LAST_CALL_SECONDS              with MIN:MAX, to wait for more than MIN (30)
#   LOST_SECONDS                   without a sign of life, until a machine counts as gone (15)
#   NETWORK_INTERFACE              where gloo and NCCL talk, for instance eth0 (their own choice)
#   LOCAL_ADDR                     of this machine, as others reach it (its full host name)
#   OMP_NUM_THREADS                of each rank, for PyTorch on a CPU (1)
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -gt 0 ]] || { echo "usage: bash $0 COMMAND.py FLAGS..., see its first lines" >&2; exit 2; }

MASTER_ADDR=${MASTER_ADDR:-${PET_MASTER_ADDR:?or MASTER_ADDR must name node 0}}
MASTER_PORT=${MASTER_PORT:-${PET_MASTER_PORT:-29400}}
NODES=${NODES:-${PET_NNODES:-1}}
NODE_RANK=${NODE_RANK:-${PET_NODE_RANK:?or NODE_RANK must be the number of this machine}}
LOST_SECONDS=${LOST_SECONDS:-15}
JOIN_SECONDS=${JOIN_SECONDS:-600}
GPUS=$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)
RANKS_PER_NODE=${RANKS_PER_NODE:-${PET_NPROC_PER_NODE:-$((GPUS > 0 ? GPUS : 1))}}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
if [[ -n ${NETWORK_INTERFACE:-} ]]; then
    export GLOO_SOCKET_IFNAME=$NETWORK_INTERFACE NCCL_SOCKET_IFNAME=$NETWORK_INTERFACE
fi
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${SAVE_SECONDS:-270}
# With the store of the first round, which torchrun shares by default, a machine that joins later
# waits for an address that nobody sends: each round makes its own store.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

settings=(
    "is_host=$([[ $NODE_RANK == 0 ]] && echo true || echo false)"
    "join_timeout=$JOIN_SECONDS"
    "read_timeout=$JOIN_SECONDS" # also to wait for node 0 itself
    "last_call_timeout=${LAST_CALL_SECONDS:-30}"
    "keep_alive_interval=$(((LOST_SECONDS + 2) / 3))"
    "keep_alive_max_attempt=3"
)
flags=(
    --rdzv-backend=c10d
    --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT"
    --rdzv-id="${JOB_ID:-sessionwise}"
    --rdzv-conf="$(IFS=, && echo "${settings[*]}")"
    --nnodes="$NODES"
    --nproc-per-node="$RANKS_PER_NODE"
    --max-restarts="${MAX_RESTARTS:-10}"
    ${LOCAL_ADDR:+--local-addr="$LOCAL_ADDR"}
)
exec torchrun "${flags[@]}" "$@"
