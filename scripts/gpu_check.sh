#!/usr/bin/env bash
# Everything that needs a GPU, in one command of at most 10 minutes: tests marked gpu, the benchmark of the
# losses, and training on one GPU.
#
#   make gpu-check        or, without make's environment:   bash scripts/gpu_check.sh
#
# Hardware: one NVIDIA GPU. Needs Python 3.11 or 3.12, torch with Triton, pytest, hypothesis, matplotlib.
# Where .gpu/site.tar.xz holds TorchRec and FBGEMM (see docs/kernels.md), it is unpacked and used.
#   OUT=folder       where benchmark results go (default: benchmarks/results)
#   WITHOUT_TORCHREC=1 leaves training out; else it fails where TorchRec is not installed
#   SECONDS_EACH=0.2 measuring time of a benchmark's line
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-benchmarks/results}
SECONDS_EACH=${SECONDS_EACH:-0.2}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
if [[ -f .gpu/site.tar.xz && ! -d .gpu/site ]]; then
	python3 -c "import tarfile; tarfile.open('.gpu/site.tar.xz').extractall('.gpu/site', filter='data')"
fi
[[ -d .gpu/site ]] && export PYTHONPATH="$PWD/.gpu/site:$PYTHONPATH"
python3 -c "import torch, triton; print('torch', torch.__version__, 'triton', triton.__version__)"

# Without TorchRec the tests of the trainer cannot even be collected.
status=0
tests=(tests/kernels tests/losses)
if python3 -c "import torchrec"; then
	tests+=(tests/test_gpu_training.py tests/test_devices.py)
elif [[ ${WITHOUT_TORCHREC:-} == 1 ]]; then
	echo "training on the GPU is left out, as WITHOUT_TORCHREC=1 says"
else
	echo "error: torchrec cannot be imported, so training on the GPU is not checked; install it," \
		"or say WITHOUT_TORCHREC=1" >&2
	status=1
fi
timeout 270 python3 -m pytest -m gpu -q "${tests[@]}" || status=$?
timeout 270 python3 benchmarks/bench_losses.py --seconds "$SECONDS_EACH" --output "$OUT" || status=$?
exit "$status"
