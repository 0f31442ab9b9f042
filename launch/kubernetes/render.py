"""Print a manifest of this folder with its knobs filled in, for kubectl.

Hardware: a Kubernetes cluster with a volume that several nodes may write to; for `train` NVIDIA
GPUs and their device plugin. Software on it: Kubeflow's Spark operator 2 for `sort`, Kubeflow
Trainer 2 for `train`.

    python launch/kubernetes/render.py storage | kubectl apply -f -
    EXECUTORS=64 python launch/kubernetes/render.py sort | kubectl apply -f -
    NODES=4 PIPELINE_CONFIG=/data/my.config \\
        python launch/kubernetes/render.py train | kubectl apply -f -

Knobs are environment variables; these are their defaults:

"""

import argparse
import os
import sys
from pathlib import Path
from string import Template

FOLDER = Path(__file__).parent
DEFAULTS = {
    "STORAGE_SIZE": "10Ti",
    "SPARK_IMAGE": "sessionwise/spark-job:0.1.0",
    "EXECUTORS": "16",
    "SHUFFLE_SIZE": "200Gi",
    "INPUT_PATH": "/data/raw",
    "SESSION_COLUMN": "session_id",
    "TIMESTAMP_COLUMN": "timestamp",
    "TRAIN_PATH": "/data/train_sorted",
    "TRAINER_IMAGE": "sessionwise/trainer:0.1.0-cuda",
    "NODES": "2",
    "GPUS": "8",
    "CPUS": "64",
    "MEMORY": "500Gi",
    "PIPELINE_CONFIG": "/app/examples/synthetic/jrc.config",
    "MODEL_DIR": "/data/model",
    "JOB_ID": "sessionwise-train",
    "NCCL_DEBUG": "WARN",
    "NETWORK_INTERFACE": '""',
}


def render(name: str) -> str:
    """The manifest NAME.yaml of this folder, with the environment's knobs or their defaults."""
    knobs = {knob: os.environ.get(knob) or default for knob, default in DEFAULTS.items()}
    return Template((FOLDER / f"{name}.yaml").read_text()).substitute(knobs)


def main() -> None:
    """Print the manifest that the command line names."""
    defaults = "\n".join(f"    {knob}={default}" for knob, default in DEFAULTS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}{defaults}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", choices=sorted(path.stem for path in FOLDER.glob("*.yaml")))
    sys.stdout.write(render(parser.parse_args().manifest))


if __name__ == "__main__":
    main()
