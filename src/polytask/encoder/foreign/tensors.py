"""Reads the tensors of a checkpoint folder, whatever kind of files they lie in, one at a time.

Only file formats are known here; what the tensors are called is the business of ``weights``.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polytask.errors import CheckpointError, listed

ONE_FILE = ("model.safetensors", "pytorch_model.bin")
INDEX_ENDING = ".index.json"
FOREIGN_NAME = re.compile(r"GLOBAL (\S+)")
"""What torch says of a pickle that wants more than tensors."""


_INSTEAD = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch that with `git lfs pull`",
    b"<!doctype html": "an HTML page, as a server sends for an error: download it again",
    b"<html": "an HTML page, as a server sends for an error: download it again",
    b"<?xml": "an XML page, as a server sends for an error: download it again",
    b"%pdf-": "a PDF",
}


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in ``file``; ``read`` fetches its values, which may be a view of the mapped file."""

    file: Path
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


@contextmanager
def open_tensors(folder: Path) -> Iterator[dict[str, Stored]]:
    """Yield a checkpoint's tensors by their names in the files, for as long as the files are open.

    Raises CheckpointError when there are none, or when a file is missing, cut short, or no checkpoint.
    """
    with ExitStack() as opened:
        stored: dict[str, Stored] = {}
        for file in weight_files(folder):
            stored.update(_open_safetensors(file, opened) if file.suffix == ".safetensors" else _open_pickle(file))
        yield stored


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in ``file``. Raises CheckpointError when there is none."""
    if not file.parent.is_dir():
        raise CheckpointError(f"There is no folder {file.parent}.")
    if not file.is_file():
        raise CheckpointError(f"{file.parent} is not a checkpoint: it has no {file.name}.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{file} is not readable as JSON: {error}.{looks_like(file)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not a JSON object.")
    return content


def looks_like(file: Path) -> str:
    """Return ``" It is an HTML page …"`` for a file that was saved in place of another, or an empty string."""
    try:
        with file.open("rb") as stream:
            start = stream.read(200).lstrip().lower()
    except OSError:
        return ""
    return next((f" It is {what}." for mark, what in _INSTEAD.items() if start.startswith(mark)), "")


def weight_files(folder: Path) -> list[Path]:
    """Return the files that a checkpoint's weights lie in. Raises CheckpointError where there are none, or one lacks."""
    for name in ONE_FILE:  # safetensors first, as transformers does
        if (folder / name).is_file():
            return [folder / name]
        if (folder / (name + INDEX_ENDING)).is_file():
            return _shards(folder / (name + INDEX_ENDING))
    wanted = [*ONE_FILE, *(name + INDEX_ENDING for name in ONE_FILE)]
    raise CheckpointError(f"{folder} holds no weights: there is none of {listed(wanted)}.")


def _shards(index: Path) -> list[Path]:
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(shard, str) for shard in placed.values()):
        raise CheckpointError(f"{index} has no 'weight_map' from tensor names to files.")
    shards = {str(shard): str(tensor) for tensor, shard in placed.items()}
    for shard, tensor in shards.items():
        # Only plain names: an index must not make us open files elsewhere on this machine.
        if Path(shard).name != shard or "\\" in shard or Path(shard).suffix not in (".safetensors", ".bin"):
            raise CheckpointError(f"{index} puts '{tensor}' into '{shard}', which is not a file of weights beside it.")
        if not (index.parent / shard).is_file():
            raise CheckpointError(f"{index} puts '{tensor}' into '{shard}', which is not there.")
    return [index.parent / shard for shard in sorted(shards)]


def _open_safetensors(file: Path, opened: ExitStack) -> dict[str, Stored]:
    try:
        handle = opened.enter_context(safe_open(file, framework="pt", device="cpu"))
        return {name: _in_safetensors(file, handle, name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is cut short or is not a safetensors file: {error}.{looks_like(file)}"
        ) from error


def _in_safetensors(file: Path, handle: Any, name: str) -> Stored:
    return Stored(file, tuple(handle.get_slice(name).get_shape()), lambda: handle.get_tensor(name))


def _open_pickle(file: Path) -> dict[str, Stored]:
    content = _unpickle(file)
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file} is not a checkpoint: it holds no mapping from names to tensors.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return {name: Stored(file, tuple(value.shape), lambda value=value: value) for name, value in tensors.items()}  # type: ignore[misc]


def _unpickle(file: Path) -> object:
    with file.open("rb") as stream:
        mapped = stream.read(4) == b"PK\x03\x04"  # files from before torch 1.6 are no zip archives: not mappable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that others than torch wrote: they are refused below
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        foreign = FOREIGN_NAME.search(str(error))
        if foreign:
            raise CheckpointError(
                f"{file} was refused: loading it could run code, for its pickle names '{foreign[1]}' beside tensors."
                " Ask for the weights as safetensors."
            ) from error
        raise CheckpointError(f"{file} is not a checkpoint: it is no pickle of tensors.{looks_like(file)}") from error
    except Exception as error:  # a damaged pickle can raise anything: EOFError, KeyError, RuntimeError, …
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(
            f"{file} is cut short or is not a checkpoint: {reason[:200]}.{looks_like(file)}"
        ) from error
