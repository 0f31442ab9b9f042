"""Check that an image holds what it should, and that its GPUs work; both images run this first.

python docker/check.py trainer
python docker/check.py spark-job
"""

import argparse
import importlib
import os
import resource
import subprocess

MIN_SHARED_MEMORY_BYTES = 1 << 30  # NCCL's ranks on one machine meet there; Docker gives 64 MiB


def check_trainer() -> None:
    """Import what training needs; on CUDA, run a fused kernel on each GPU."""
    for name in ("torch", "fbgemm_gpu", "torchrec", "pyarrow", "google.protobuf"):
        print(name, getattr(importlib.import_module(name), "__version__", "(no version)"))
    for name in ("kernels", "losses", "preprocessing.dataset_format", "trainer.trainer"):
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
        check_gpu(index)
    print("NCCL", ".".join(map(str, nccl.version())))
    for warning in limit_warnings():
        print("warning:", warning)


def check_gpu(index: int) -> None:
    """Compare the JRC loss by its Triton kernel on one GPU with the CPU's."""
    import torch

    from losses.jrc import JRCLoss

    loss, offsets = JRCLoss(), torch.tensor([0, 3, 4, 8])
    logits, labels = torch.linspace(-2, 2, 16).view(8, 2), torch.tensor([0, 1, 0, 1, 1, 0, 0, 1])
    expected = loss(logits, labels, session_offsets=offsets)
    moved = (tensor.to(f"cuda:{index}") for tensor in (logits, labels, offsets))
    logits, labels, offsets = moved
    found = loss(logits, labels, session_offsets=offsets).cpu()
    if not torch.allclose(found, expected, rtol=1e-5):
        raise SystemExit(f"cuda:{index} computes a wrong loss: {found:.7f}, not {expected:.7f}")
    print(f"device: cuda:{index} {torch.cuda.get_device_name(index)}, kernel ok")


def limit_warnings() -> list[str]:
    """What of the container's limits is known to stop NCCL."""
    found = []
    shared = os.statvfs("/dev/shm")
    size = shared.f_frsize * shared.f_blocks
    if size < MIN_SHARED_MEMORY_BYTES:
        found.append(f"/dev/shm has {size >> 20} MiB: --shm-size=2g, or --ipc=host")
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if locked != resource.RLIM_INFINITY:
        found.append(f"{locked >> 10} KiB may be locked, InfiniBand needs all: --ulimit memlock=-1")
    return found


def check_spark_job() -> None:
    """Start Java and Spark, in which the job prints its usage."""
    print("pyspark", importlib.import_module("pyspark").__version__)
    command = ["spark-submit", "preprocessing/jrc_sort.py", "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Run the check of the image named on the command line."""
    parser = argparse.ArgumentParser(description="Check that an image holds what it should.")
    parser.add_argument("image", choices=["trainer", "spark-job"])
    checks = {"trainer": check_trainer, "spark-job": check_spark_job}
    checks[parser.parse_args().image]()
    print("ok")


if __name__ == "__main__":
    main()
