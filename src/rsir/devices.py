"""Where things run: the device, and what the machine is."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from rsir.errors import ConfigError


def resolve_device(name: str = "auto") -> torch.device:
    """The device for a name: "auto" takes CUDA where there is one.

    Raises:
        ConfigError: for an unknown name, or CUDA where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not known: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for, but PyTorch sees no CUDA device: use auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def resolve_precision(name: str, device: torch.device | str) -> str:
    """What "auto" is: "bfloat16" where the device multiplies matrices of it faster, else "float32".

    On a CPU that takes AMX tiles, or AVX-512's bfloat16 instructions from AMD: there (Zen 5) the loss over
    the whole catalogue was measured 2.7 to 3.1 times faster than in float32. On an Intel processor with
    AVX-512 and no AMX it was 1.3 to 1.6 times slower.
    """
    if name != "auto":
        return name
    if torch.device(device).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = can.get("amx_tile") or (can.get("avx512_bf16") and "AMD" in can.get("cpu_name", ""))
    return "bfloat16" if native else "float32"


def at_once(device: torch.device | str, *, cpu: int, cuda: int) -> int:
    """How much to do at a time: little on a CPU, whose caches are small, much on a GPU, to keep it busy."""
    return cuda if torch.device(device).type == "cuda" else cpu


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def environment(device: torch.device | str = "cpu") -> dict[str, object]:
    """Versions, threads, device and memory, as plain JSON values."""
    cuda = torch.device(device).type == "cuda"
    return {
        "rsir": version("rsir"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "packages": {
            name: _version(name) for name in ("torch", "polars", "pydantic", "numpy", "safetensors")
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
