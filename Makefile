# Set-up, checks and runs. `make` alone lists the targets.
#
#   DEVICE=cpu|cuda   which packages to install; default: cuda where nvidia-smi lists a GPU
#   PYTHON=...        the Python to make .venv from; default: python3.11, else python3.12
#   JOBS=2            pytest processes
#   KILLS=20          of kill-test
#   SECONDS=600       of fuzz, per target
#   PIP_EXTRA_INDEX_URL=...   on a machine without a GPU: an index with torch's CPU wheels saves several GB

SHELL := bash
DEVICE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
PYTHON ?= $(shell for p in python3.11 python3.12; do \
	$$p -c 'import ensurepip, venv' 2>/dev/null && echo $$p && break; done)
JOBS ?= 2
KILLS ?= 20
SECONDS ?= 600

STAMP := .venv/ready-$(DEVICE)
# An edge node's own Spark would run in place of the environment's: pyspark's launcher obeys SPARK_HOME.
IN_VENV := env -u SPARK_HOME -u SPARK_CONF_DIR PATH="$(CURDIR)/.venv/bin:$$PATH"

.DEFAULT_GOAL := help
.PHONY: help setup demo trivago test lint docker-lint docs compile-kernels long-test kill-test fuzz audit gpu-check format protos \
	wheel lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv: packages for DEVICE, and a Java for Spark (1 to 3 minutes, once)

$(STAMP): pyproject.toml $(wildcard requirements/*.txt requirements/*/pyproject.toml) scripts/setup_env.py
	@[[ "$(DEVICE)" =~ ^(cpu|cuda)$$ ]] || { echo "DEVICE must be cpu or cuda, got: $(DEVICE)" >&2; exit 1; }
	@[[ -n "$(PYTHON)" ]] || { echo "Python 3.11 or 3.12 with its venv module is needed; none was found." \
		"Debian: apt-get install python3.11-venv. Or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" scripts/setup_env.py --device $(DEVICE)

demo: setup ## the whole system on made data: generate, sort with Spark, train on 2 ranks, evaluate
	@$(IN_VENV) bash examples/synthetic/run.sh

trivago: setup ## the same on real data: make trivago RAW=path/to/trivago_actions.parquet
	@[[ -f "$(RAW)" ]] || { echo "RAW must be the raw Parquet file, got: '$(RAW)'" >&2; exit 1; }
	@$(IN_VENV) bash examples/trivago/run.sh "$(RAW)"

test: lint ## what CI runs: lint, types, documentation, kernels for sm_90, tests (20 minutes)
	@$(IN_VENV) python scripts/compile_kernels.py --arch 90
	@$(IN_VENV) OMP_NUM_THREADS=1 python -m pytest -m "not long" -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 25

long-test: compile-kernels ## kernels for three GPU generations; a Spark cluster, machines killed and joined again (12 minutes)
	@$(IN_VENV) OMP_NUM_THREADS=1 python -m pytest -m long

lint: setup docker-lint docs ## ruff (rules and format), pyright, and what the targets named here check
	@$(IN_VENV) ruff check .
	@$(IN_VENV) ruff format --check .
	@$(IN_VENV) PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright
	@$(IN_VENV) pre-commit validate-config

docker-lint: setup ## hadolint on the Dockerfiles, the Compose schema on the compose files
	@$(IN_VENV) hadolint --config docker/hadolint.yaml docker/Dockerfile docker/spark.Dockerfile
	@$(IN_VENV) check-jsonschema --builtin-schema vendor.compose-spec docker/compose*.yaml

docs: setup ## build the documentation into site/; a warning is an error
	@$(IN_VENV) NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict

compile-kernels: setup ## compile every kernel for three GPU generations, without one; none may spill registers
	@$(IN_VENV) python scripts/compile_kernels.py

kill-test: setup ## SIGKILL to the layout job at KILLS random moments: the old dataset or the new (10 minutes)
	@$(IN_VENV) SESSIONWISE_KILLS=$(KILLS) OMP_NUM_THREADS=1 python -m pytest -s tests/preprocessing/test_kills.py -k killed

fuzz: setup ## damaged configs, normalisers, manifests and indexes for SECONDS each: the documented error or none
	@$(IN_VENV) python scripts/fuzz.py --seconds $(SECONDS)

audit: setup ## known vulnerabilities of the locked versions (asks a service on the network)
	@$(IN_VENV) pip-audit --no-deps --requirement requirements/constraints.txt

gpu-check: setup ## with a GPU: its tests, the benchmark of the losses, training (under 10 minutes)
	@$(IN_VENV) bash scripts/gpu_check.sh

format: setup ## rewrite the sources in the project's format
	@$(IN_VENV) ruff check --fix .
	@$(IN_VENV) ruff format .

protos: setup ## regenerate trainer/protos/*_pb2.py and .pyi, and docs/config.md
	@$(IN_VENV) python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. trainer/protos/*.proto
	@$(IN_VENV) python scripts/config_reference.py

wheel: setup ## build dist/: the wheel of this version, and the stand-in that a CPU install needs beside it
	@$(IN_VENV) python -m build --no-isolation --wheel --outdir dist .
	@$(IN_VENV) python -m build --no-isolation --wheel --outdir dist requirements/fbgemm-gpu-cpu

lock: setup ## write requirements/constraints.txt from what .venv holds
	@$(IN_VENV) python scripts/lock.py

clean: ## delete .venv and what tools leave behind
	rm -rf .venv .hypothesis .pytest_cache .ruff_cache dist site spark-warehouse
	find . -name __pycache__ -prune -exec rm -rf {} +
