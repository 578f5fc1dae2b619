"""Tensors to files and back: whole or not at all, and never aliased to the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from polytask.errors import RunFolderError
from polytask.run.tensors import copy_into, load_tensors, save_tensors


def some_tensors() -> dict[str, torch.Tensor]:
    return {"a": torch.randn(3, 4), "b.c": torch.randn(4, 6).t(), "count": torch.tensor(7.0), "empty": torch.zeros(0)}


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_tensors(tensors, tmp_path / "t.safetensors")
    found = load_tensors(tmp_path / "t.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def test_views_of_one_buffer_are_saved_as_what_they_show(tmp_path: Path) -> None:
    flat = torch.arange(12.0)
    save_tensors({"head": flat[:4].view(2, 2), "tail": flat[4:]}, tmp_path / "t.safetensors")
    found = load_tensors(tmp_path / "t.safetensors")
    assert torch.equal(found["head"], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert torch.equal(found["tail"], torch.arange(4.0, 12.0))


def test_what_was_loaded_does_not_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors({"a": torch.ones(1000)}, path)
    found = load_tensors(path)["a"]
    data = bytearray(path.read_bytes())
    data[-2000:] = bytes(2000)
    path.write_bytes(data)
    assert bool((found == 1).all())
    found.add_(1)  # its own memory, writable


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "folder"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors(some_tensors(), path)
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": whole[:-1], "empty": b"", "text": b"no tensors here, sorry"}[damage])
    with pytest.raises(RunFolderError, match=r"t\.safetensors is damaged"):
        load_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"t\.safetensors is missing"):
        load_tensors(tmp_path / "t.safetensors")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors({"a": torch.ones(2)}, path)
    with pytest.raises(RunFolderError, match="cannot be written"):
        save_tensors({"a": torch.zeros(2)}, tmp_path / "nowhere" / "t.safetensors")
    assert torch.equal(load_tensors(path)["a"], torch.ones(2))


def test_copying_into_a_module_wants_the_very_same_names_and_shapes(tmp_path: Path) -> None:
    module = nn.Linear(3, 2)
    path = tmp_path / "w.safetensors"
    weight, bias = torch.ones(2, 3), torch.ones(2)
    copy_into(module, {"weight": weight, "bias": bias}, path)
    assert torch.equal(module.weight.detach(), weight)
    assert module.weight.data_ptr() != weight.data_ptr()
    with pytest.raises(RunFolderError, match=r"'bias' is missing from .*w\.safetensors"):
        copy_into(module, {"weight": weight}, path)
    with pytest.raises(RunFolderError, match=r"'extra' does not belong in .*w\.safetensors"):
        copy_into(module, {"weight": weight, "bias": bias, "extra": bias}, path)
    with pytest.raises(
        RunFolderError, match=r"'weight' in .*w\.safetensors has the shape \(3, 2\) instead of \(2, 3\)"
    ):
        copy_into(module, {"weight": torch.ones(3, 2), "bias": bias}, path)
