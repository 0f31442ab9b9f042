"""Compile Triton's CUDA helper into its cache, where the image is built, without a GPU.

Triton loads each kernel by a small C module of its own, which it compiles when the first one is
launched; kernels themselves need no C compiler. With the module in the cache ($TRITON_CACHE_DIR),
the image that runs needs neither compiler nor headers. The module's key is a hash of its source
and of the platform, so that it is found again: docker/check.py launches a kernel.

    TRITON_CACHE_DIR=/opt/triton python docker/build_triton_helper.py
"""

import os
import subprocess
import tempfile
from pathlib import Path


def make_stub_driver(folder: Path) -> None:
    """Put a driver library without content there: the real one comes with the GPU's host."""
    source = folder / "stub.c"
    source.touch()
    library = str(folder / "libcuda.so.1")
    command = ["gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-o", library, str(source)]
    subprocess.run(command, check=True)


def main() -> None:
    """Compile; fails unless the module is in the cache."""
    cache = Path(os.environ["TRITON_CACHE_DIR"])
    with tempfile.TemporaryDirectory() as folder:
        make_stub_driver(Path(folder))
        os.environ["TRITON_LIBCUDA_PATH"] = folder  # read when Triton is imported, and later
        from triton.backends.nvidia import driver

        try:
            driver.CudaUtils()
        except ImportError as error:  # it is in the cache, and lacks the driver's functions
            print(f"as expected without a GPU: {error}")
    (module,) = cache.glob("*/cuda_utils.*.so")
    print(f"{module}: {module.stat().st_size} bytes")


if __name__ == "__main__":
    main()
