"""Which device computes, in which precision, and on what kind of processor."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from polytask.errors import Unavailable, UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA where there is one, else the CPU.

    Raises Unavailable for a device that is asked for by name and is not there, UserError for a name that is none.
    """
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise UserError(f"'{name}' is not a device; there are 'auto', 'cpu', 'cuda' and 'mps'.")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise Unavailable("Device 'cuda' is asked for, and torch sees no CUDA device here; 'cpu' is always there.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise Unavailable("Device 'mps' is asked for, and torch sees none here; 'cpu' is always there.")
    return torch.device(name)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Say whether the device states that it multiplies bf16 matrices natively; nothing is timed."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def pick_precision(name: str, device: torch.device) -> str:
    """Return "float32" or "bfloat16"; "auto" is bfloat16 where the device multiplies it natively."""
    if name != "auto":
        return name
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def processor_kind(device: torch.device) -> str:
    """Return what the results of a run depend on besides its recipe, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    matrix = "AMX" if torch.cpu._is_amx_tile_supported() else None
    matrix = matrix or ("AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else None)
    vector = torch.backends.cpu.get_cpu_capability()
    return " ".join(part for part in (platform.machine(), _model_name(), vector, matrix) if part)


def surroundings(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Return versions, processor kind, threads and processes: with the recipe, what a bit-identical result needs."""
    return {
        "polytask": version("polytask"),
        "torch": torch.__version__,
        "processor": processor_kind(device),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that there was no memory left; torch has a class of its own for that on CUDA only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def _model_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)
