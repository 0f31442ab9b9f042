"""Check that an image holds what it should; the images run this when started without a command.

docker run --rm --gpus all sessionwise/trainer
docker run --rm sessionwise/spark-job
"""

import argparse
import importlib
import subprocess


def check_trainer() -> None:
    """Import what training needs; on CUDA, run one kernel on each GPU."""
    for name in ("torch", "fbgemm_gpu", "torchrec", "pyarrow", "google.protobuf"):
        print(name, getattr(importlib.import_module(name), "__version__", "(no version)"))
    for name in ("kernels", "losses", "preprocessing.dataset_format", "trainer"):
        importlib.import_module(name)
    import torch
    from torch.cuda import nccl

    if torch.version.cuda is None:
        print("device: CPU (image built with DEVICE=cpu)")
        return
    if not torch.cuda.is_available():
        raise SystemExit(
            f"The image holds CUDA {torch.version.cuda} but sees no GPU: start it with"
            " `--gpus all`, and check the host's driver and NVIDIA container toolkit."
            " For the CPU, build the image with DEVICE=cpu."
        )
    for index in range(torch.cuda.device_count()):
        total = torch.ones(1024, device=f"cuda:{index}").sum().item()
        assert total == 1024, total
        print(f"device: cuda:{index} {torch.cuda.get_device_name(index)}")
    print("NCCL", ".".join(map(str, nccl.version())))


def check_spark_job() -> None:
    """Start Java and Spark, and let the job print its usage."""
    subprocess.run(["spark-submit", "--version"], check=True)
    subprocess.run(["spark-submit", "preprocessing/jrc_sort.py", "--help"], check=True)


def main() -> None:
    """Run the check of the image named on the command line."""
    parser = argparse.ArgumentParser(description="Check that an image holds what it should.")
    parser.add_argument("image", choices=["trainer", "spark-job"])
    checks = {"trainer": check_trainer, "spark-job": check_spark_job}
    checks[parser.parse_args().image]()
    print("ok")


if __name__ == "__main__":
    main()
