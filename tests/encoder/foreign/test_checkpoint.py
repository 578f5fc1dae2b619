"""Checkpoints in every form they come in, what is wrong with them named, and the way back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask.encoder.bert import Bert, BertShape, load_bert, save_bert
from polytask.encoder.foreign.checkpoint import by_foreign_name
from polytask.encoder.foreign.namings.base import namings
from polytask.errors import CheckpointError

SHAPE = BertShape(vocabulary=30, width=16, layers=2, heads=4, feed_forward=24, positions=20, epsilon=1e-6)
QUERY = "encoder.layer.1.attention.self.query.weight"
State = dict[str, Tensor]


@pytest.fixture
def encoder() -> Bert:
    """A small BERT in which no two numbers are alike."""
    torch.manual_seed(0)
    made = Bert(SHAPE, dropout=0.25, attention_dropout=0.5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


@pytest.fixture
def folder(encoder: Bert, tmp_path: Path) -> Path:
    save_bert(encoder, tmp_path / "saved", None)
    return tmp_path / "saved"


def state_of(folder: Path) -> State:
    return load_file(folder / "model.safetensors")


def put(folder: Path, state: State) -> None:
    save_file(state, folder / "model.safetensors")


def assert_same(found: Bert, wanted: Bert, *, atol: float = 0.0) -> None:
    assert found.state_dict().keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        assert found.state_dict()[name].dtype is torch.float32
        torch.testing.assert_close(found.state_dict()[name], tensor, atol=atol, rtol=0, msg=name)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_bert(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_way_there_and_back(encoder: Bert, folder: Path, tmp_path: Path) -> None:
    again = load_bert(folder)
    assert_same(again, encoder)
    assert again.describe() == encoder.describe()
    assert all(parameter.requires_grad for parameter in again.parameters())
    save_bert(again, tmp_path / "again", None)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_every_parameter_has_one_foreign_name(encoder: Bert) -> None:
    views = by_foreign_name(namings.create("bert"), dict(encoder.named_parameters()))
    assert sum(view.numel() for view in views.values()) == sum(p.numel() for p in encoder.parameters())
    for view in views.values():
        view.zero_()
    assert not any(parameter.any() for parameter in encoder.parameters())


def test_query_key_and_value_are_rows_of_one_matrix_in_that_order(encoder: Bert, folder: Path) -> None:
    state = state_of(folder)
    fused = torch.cat([state[QUERY.replace("query", part)] for part in ("query", "key", "value")])
    assert torch.equal(encoder.state_dict()["layers.1.attention.qkv.weight"], fused)


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float64, 0), (torch.float8_e5m2, 0.5)]
)
def test_any_float_type_becomes_float32(encoder: Bert, folder: Path, dtype: torch.dtype, atol: float) -> None:
    put(folder, {name: value.to(dtype) for name, value in state_of(folder).items()})
    assert_same(load_bert(folder), encoder, atol=atol)


def shard(state: State, save: Callable[[State, Path], object], folder: Path, ending: str) -> None:
    """Write a state as two files and an index."""
    names = sorted(state)
    files = {name: f"part-{i % 2}{Path(ending).suffix}" for i, name in enumerate(names)}
    for file in set(files.values()):
        save({name: state[name] for name in names if files[name] == file}, folder / file)
    (folder / (ending + ".index.json")).write_text(json.dumps({"weight_map": files}), encoding="utf-8")


def old_pickle(state: State, file: Path) -> None:
    torch.save(state, file, _use_new_zipfile_serialization=False)


WRITERS: dict[str, Callable[[State, Path], object]] = {
    "one safetensors": lambda state, folder: save_file(state, folder / "model.safetensors"),
    "safetensors shards": lambda state, folder: shard(state, save_file, folder, "model.safetensors"),
    "one pickle": lambda state, folder: torch.save(state, folder / "pytorch_model.bin"),
    "one old pickle": lambda state, folder: old_pickle(state, folder / "pytorch_model.bin"),
    "pickle shards": lambda state, folder: shard(state, torch.save, folder, "pytorch_model.bin"),
}
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda name: name,
    "prefix": lambda name: f"bert.{name}",
    "old": lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
}
SPELLINGS["prefix and old"] = lambda name: SPELLINGS["prefix"](SPELLINGS["old"](name))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("writer", WRITERS)
def test_every_file_layout_in_every_spelling(encoder: Bert, folder: Path, writer: str, spelling: str) -> None:
    state = {SPELLINGS[spelling](name): value for name, value in state_of(folder).items()}
    state |= {"cls.predictions.bias": torch.zeros(30), "bert.embeddings.position_ids": torch.arange(20).unsqueeze(0)}
    (folder / "model.safetensors").unlink()
    WRITERS[writer](state, folder)
    assert_same(load_bert(folder), encoder)


@pytest.mark.parametrize("writer", ["one safetensors", "one pickle"])
def test_nothing_is_shared_with_the_file(encoder: Bert, folder: Path, writer: str) -> None:
    state = state_of(folder)
    (folder / "model.safetensors").unlink()
    WRITERS[writer](state, folder)
    loaded = load_bert(folder)
    file = next(file for file in folder.iterdir() if file.name != "config.json")
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(b"\xff" * (file.stat().st_size // 3))
    assert_same(loaded, encoder)


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    before = torch.get_rng_state()
    load_bert(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_pooler(folder: Path, tmp_path: Path) -> None:
    put(folder, {name: value for name, value in state_of(folder).items() if "pooler" not in name})
    loaded = load_bert(folder)
    assert not loaded.has_pooler
    save_bert(loaded, tmp_path / "again", None)
    assert not load_bert(tmp_path / "again").has_pooler


@pytest.mark.parametrize("name", [QUERY, "pooler.dense.bias", "embeddings.word_embeddings.weight"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_missing_tensor_is_named(folder: Path, writer: str, name: str) -> None:
    state = state_of(folder)
    del state[name]
    (folder / "model.safetensors").unlink()
    WRITERS[writer](state, folder)
    assert f"lacks the tensor '{name}'" in refusal(folder)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_misshapen_tensor_is_named_with_both_shapes(folder: Path, writer: str) -> None:
    state = state_of(folder) | {QUERY: torch.zeros(16, 12)}
    (folder / "model.safetensors").unlink()
    WRITERS[writer](state, folder)
    said = refusal(folder)
    assert all(part in said for part in (QUERY, "(16, 12)", "(16, 16)"))
    assert ".safetensors" in said or ".bin" in said


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kept", [0, 3, 200, 0.5, -1])
def test_a_file_cut_short_is_named(folder: Path, writer: str, kept: float) -> None:
    state = state_of(folder)
    (folder / "model.safetensors").unlink()
    WRITERS[writer](state, folder)
    file = next(file for file in sorted(folder.iterdir()) if file.suffix != ".json")
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    said = refusal(folder)
    assert str(file) in said
    # Half a name in an old pickle is a name that torch does not know.
    assert "cut short" in said or "not a checkpoint" in said or "was refused" in said


def test_an_index_that_names_what_is_not_there(folder: Path) -> None:
    shard(state_of(folder), save_file, folder, "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "part-1.safetensors").unlink()
    assert "'part-1.safetensors', which is not there" in refusal(folder)


@pytest.mark.parametrize("place", ["../saved/model.safetensors", "/etc/passwd", "..", "config.json", "a\\b.bin", ""])
def test_an_index_cannot_reach_outside_its_folder(folder: Path, place: str) -> None:
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}), encoding="utf-8")
    assert "not a file of weights beside it" in refusal(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "\udcff"])
def test_a_broken_index(folder: Path, content: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin.index.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "pytorch_model.bin.index.json" in refusal(folder)


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("false",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    content = {**state_of(folder), "extra": RunsCode()}
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("it ran"))
    said = refusal(folder)
    assert "pytorch_model.bin" in said
    assert "run code" in said
    assert ".system'" in said


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"hello world" * 30, b"PK\x03\x04 and so on"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_what_is_no_checkpoint(folder: Path, name: str, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    assert str(folder / name) in refusal(folder)


@pytest.mark.parametrize("content", [[1, 2], {"state": {"a": torch.zeros(1)}}, torch.zeros(2)])
def test_a_pickle_of_something_else(folder: Path, content: object) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    assert "not a checkpoint" in refusal(folder)


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    put(folder, state_of(folder) | {QUERY: torch.zeros(16, 16, dtype=torch.int8)})
    said = refusal(folder)
    assert QUERY in said
    assert "torch.int8" in said


def test_a_tensor_under_two_names(folder: Path) -> None:
    state = state_of(folder)
    put(folder, state | {f"bert.{QUERY}": state[QUERY].clone()})
    assert f"'{QUERY}' twice" in refusal(folder)


def test_a_folder_without_weights_or_config(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in refusal(folder)
    (folder / "config.json").unlink()
    assert "it has no config.json" in refusal(folder)
    assert "There is no folder" in refusal(tmp_path / "nowhere")
