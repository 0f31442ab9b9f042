"""What figures were measured on, for every benchmark."""

import platform
import re
from pathlib import Path


def cpu_name() -> str:
    """The processor's name, as Linux has it."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.processor()
