"""What every architecture promises: its options are checked, what it draws can be described, rebuilt and outlined."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from polytask.assembly.encoder import rebuild_encoder
from polytask.encoder.base import Encoder, Outline, encoders
from polytask.errors import CheckpointError, OptionError, RecipeError, UserError

SMALL = {"bert": {"layers": 2, "width": 16, "heads": 2, "hidden": 24}, "lstm": {"layers": 2, "width": 12, "hidden": 8}}
DRAWN = [name for name in encoders.names() if encoders.member(name).from_scratch]


def drawn(name: str) -> Encoder:
    torch.manual_seed(0)
    return encoders.create(name, **SMALL.get(name, {})).new(50)


def test_there_are_three() -> None:
    assert {"auto", "bert", "lstm"} <= set(encoders.names())


@pytest.mark.parametrize("name", encoders.names())
def test_what_is_for_new_encoders_alone_is_an_option(name: str) -> None:
    member = encoders.member(name)
    assert member.from_scratch or member.from_checkpoint
    assert member.of_new <= encoders.options(name).keys()


@pytest.mark.parametrize("name", encoders.names())
def test_every_option_has_a_default_and_a_sentence(name: str) -> None:
    from polytask.recipe.schema import recipe_schema

    choices = recipe_schema()["properties"]["encoder"]["anyOf"]
    (table,) = (choice for choice in choices if choice["properties"]["architecture"]["const"] == name)
    for option in encoders.options(name):
        described = table["properties"][option]
        assert "default" in described
        assert "description" in json.dumps(described), option


@pytest.mark.parametrize("name", DRAWN)
def test_a_new_encoder_has_the_outline_that_was_told(name: str) -> None:
    architecture = encoders.create(name, **SMALL[name])
    assert architecture.outline(None) == Outline.of(architecture.new(50))


@pytest.mark.parametrize("name", DRAWN)
def test_an_encoder_is_rebuilt_from_its_description(name: str) -> None:
    encoder = drawn(name)
    again = rebuild_encoder(json.loads(json.dumps(encoder.describe())))
    assert type(again) is type(encoder)
    assert again.describe() == encoder.describe()
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in encoder.named_parameters()}


@pytest.mark.parametrize("name", DRAWN)
def test_a_description_with_more_in_it_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="'evil'"):
        rebuild_encoder(drawn(name).describe() | {"evil": 1})


@pytest.mark.parametrize("name", DRAWN)
def test_draws_follow_the_seed(name: str) -> None:
    one, two = drawn(name), drawn(name)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("name", encoders.names())
@pytest.mark.parametrize("rate", [-0.1, 1.0, "0.1"])
def test_a_dropout_that_cannot_be(name: str, rate: object) -> None:
    with pytest.raises(OptionError, match="dropout"):
        encoders.create(name, dropout=rate)


@pytest.mark.parametrize("sizes", [{"width": 30, "heads": 4}, {"width": 32}, {"layers": 1000, "width": 90_000}])
def test_sizes_that_contradict_each_other(sizes: dict[str, int]) -> None:
    with pytest.raises(RecipeError):
        encoders.create("bert", **sizes)


def test_what_an_architecture_does_not_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="draws no new encoder"):
        encoders.create("auto").new(50)
    with pytest.raises(UserError, match="reads no checkpoint"):
        encoders.create("lstm").load(tmp_path)


def test_what_has_no_layout_elsewhere_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Hugging Face layout"):
        encoders.member("lstm").save(drawn("lstm"), tmp_path, None)


def test_a_saved_bert_is_loaded_with_the_same_weights(tmp_path: Path) -> None:
    encoder = drawn("bert")
    encoders.member("bert").save(encoder, tmp_path / "saved", None)
    architecture = encoders.create("bert")
    again = architecture.load(tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))
    outline = architecture.outline(tmp_path / "saved")
    assert outline is not None
    assert (outline.depth, outline.positions) == (again.depth, again.positions)
