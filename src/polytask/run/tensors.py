"""Tensors to files and back. Written aside and renamed; copied in, never aliased to a mapped file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from polytask.errors import RunFolderError
from polytask.runtime.files import write_with


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, whole or not at all."""
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
    write_with(path, lambda aside: _save(arrays, aside))


def _save(arrays: dict[str, NDArray[Any]], path: Path) -> None:
    try:
        save_file(arrays, path)
    except SafetensorError as error:  # safetensors has its own name for what the system refuses
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code[1]) if code else 0, str(error)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, in memory of their own. Raises RunFolderError when it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise RunFolderError(f"{path} is missing.") from None
    except (SafetensorError, OSError) as error:
        raise RunFolderError(f"{path} is damaged: {error}.") from error


@torch.no_grad()
def copy_into(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into a module's parameters. Raises RunFolderError naming what is missing, extra or of another shape."""
    own = dict(module.named_parameters())
    wrong = sorted(set(own) ^ set(tensors))
    if wrong:
        where = "is missing from" if wrong[0] in own else "does not belong in"
        raise RunFolderError(f"'{wrong[0]}' {where} {path}.")
    for name, parameter in own.items():
        if parameter.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)} instead of {tuple(parameter.shape)}"
            raise RunFolderError(f"'{name}' in {path} has the shape {shapes}.")
        parameter.copy_(tensors[name])
