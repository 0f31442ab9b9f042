"""What a report says of machine, software and data; plain values, to be written as JSON."""

import json
import os
import platform
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torchrec

from trainer.data.encode import encode_group
from trainer.data.reader import SessionDataset
from trainer.data.storage import Storage

JOB_REPORT = "_report.json"  # of preprocessing/jrc_sort.py, beside the data
NO_VALUE = int(np.iinfo(np.int64).min)  # encode_group's number of a null


def versions() -> dict[str, str]:
    """Of Python and what computes."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchrec": torchrec.__version__,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
    }


def machine(device: torch.device) -> dict[str, str]:
    """Processor, memory and, where it is used, GPU of this rank's machine."""
    found = {"processor": _processor(), "cores": str(os.cpu_count()), "system": platform.platform()}
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["memory"] = f"{memory / 2**30:.1f} GiB"
    if device.type == "cuda":
        found["GPU"] = torch.cuda.get_device_name(device)
    return found


def data_facts(dataset: SessionDataset) -> dict[str, Any]:
    """Rows, sessions and their lengths, by the manifest; labels, by the job's report if it counted.

    Percentiles of the lengths are those of a single folder; of several they are not known.
    """
    found: dict[str, Any] = {
        "path": dataset.path,
        "rows": dataset.num_rows,
        "sessions": dataset.num_sessions,
        "files": len(dataset.files),
        "bytes": sum(file.facts.bytes for file in dataset.files),
        "session_columns": list(dataset.session_columns),
        "max_session_rows": dataset.max_session_rows,
    }
    if len(dataset.folders) == 1:
        found |= {
            name: value
            for name, value in asdict(dataset.statistics[0]).items()
            if re.match("session_rows_p|m.._timestamp", name)
        }
        found |= _of_job(dataset.folders[0])
    return found


def name_values(dataset: SessionDataset, field: str, largest: list[list[float]]) -> list[dict]:
    """Values of a field (BinaryMetrics.plots) under the names that they have in the data.

    Metrics know text by its hash: the column is read until all hashes are found again, which for
    the values with most rows is soon.
    """
    names = _names(dataset, field, {int(key) for key, *_ in largest})
    return [
        {
            "value": names[int(key)],
            "rows": int(rows),
            "positives": int(positives),
            "predicted": predicted,
        }
        for key, rows, positives, predicted in largest
    ]


def _names(dataset: SessionDataset, field: str, keys: set[int]) -> dict[int, str]:
    if pa.types.is_integer(dataset.empty_table([field]).schema.field(field).type):
        return {key: "null" if key == NO_VALUE else str(key) for key in keys}
    found: dict[int, str] = {}
    for block in range(len(dataset.blocks)):
        if not len(dataset.lengths_of_block(block)):
            continue
        values = dataset.read_block(block, [field])[0].column(field).unique()
        for key, value in zip(
            encode_group(pa.chunked_array([values])).tolist(), values, strict=True
        ):
            found[key] = str(value) if value.is_valid else "null"
        if keys <= set(found):
            break
    return {key: name for key, name in found.items() if key in keys}


def _processor() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        info = ""
    found = re.search(r"model name\s*: (.*)", info)
    return found[1].strip() if found else platform.machine()


def _of_job(folder: Storage) -> dict[str, Any]:
    """Lengths of sessions and labels, of the job's report in the folder, or of both parts above."""
    parent, _, name = folder.url.rstrip("/").rpartition("/")
    for place, part in ((folder, "all"), (Storage(parent or "."), name)):
        try:
            datasets = json.loads(place.read_bytes(JOB_REPORT))["datasets"]
            facts = datasets[part]
            return {"session_rows": facts["session_rows"], "labels": facts["labels"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is for people, and may be missing
    return {}
