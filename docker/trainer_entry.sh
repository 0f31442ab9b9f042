#!/usr/bin/env bash
# Check packages and GPUs, on stderr, then become the command; without one, the check is all.
#
#   docker run --rm --gpus all sessionwise/trainer:0.1.0-cuda
#   docker run --rm --gpus all sessionwise/trainer:0.1.0-cuda bash launch/one_node.sh launch/train.py ...
#
# CHECK=0 leaves the check out: it takes some seconds, at each start.
set -euo pipefail
if [[ ${CHECK:-1} != 0 || $# -eq 0 ]]; then
    python "$(dirname "$0")/check.py" trainer >&2
fi
[[ $# -eq 0 ]] || exec "$@"
