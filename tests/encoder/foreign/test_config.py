"""What a BERT checkpoint's config says, what is wrong with it named, and the tokenizer beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polytask.encoder.attention import SelfAttention
from polytask.encoder.bert import Bert, BertShape, load_bert, save_bert, shape_of
from polytask.encoder.foreign.checkpoint import read_stated
from polytask.errors import CheckpointError

SHAPE = BertShape(vocabulary=30, width=16, layers=2, heads=4, feed_forward=24, positions=20, epsilon=1e-6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bert(Bert(SHAPE, dropout=0.25, attention_dropout=0.5), tmp_path / "saved", None)
    return tmp_path / "saved"


def set_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; a key set to None is dropped."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_bert(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rates(encoder: Bert) -> tuple[float, float]:
    attention = next(module for module in encoder.modules() if isinstance(module, SelfAttention))
    return encoder.embeddings.dropout, attention.attention_dropout


def test_dropout_comes_from_the_config_unless_given(folder: Path) -> None:
    assert rates(load_bert(folder)) == (0.25, 0.5)
    assert rates(load_bert(folder, dropout=0.0)) == (0.0, 0.0)
    set_config(folder, hidden_dropout_prob=None, attention_probs_dropout_prob=None)
    assert rates(load_bert(folder)) == (0.1, 0.1)


@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
)
@pytest.mark.parametrize("value", [None, 0, -3, "many", 1.5, True])
def test_a_config_that_lacks_a_size(folder: Path, key: str, value: object) -> None:
    set_config(folder, **{key: value})
    assert f"'{key}'" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "swish"),
        ("layer_norm_eps", "small"),
        ("hidden_dropout_prob", 1.5),
        ("position_embedding_type", "relative_key"),
        ("max_position_embeddings", 0),
    ],
)
def test_a_config_of_another_kind(folder: Path, key: str, value: object) -> None:
    set_config(folder, **{key: value})
    said = refusal(folder)
    assert f"'{key}'" in said
    assert str(value) in said


def test_a_config_whose_numbers_do_not_fit(folder: Path) -> None:
    set_config(folder, num_attention_heads=5)
    assert "config.json" in refusal(folder)
    set_config(folder, num_attention_heads=4, is_decoder=True)
    assert "decoder" in refusal(folder)
    set_config(folder, is_decoder=None, hidden_size=2**24)
    assert "config.json asks for" in refusal(folder)  # and no memory was asked for
    set_config(folder, hidden_size=2**40)
    assert "config.json" in refusal(folder)


def test_the_first_configs_had_no_model_type(folder: Path) -> None:
    set_config(folder, model_type=None, architectures=["BertForMaskedLM"])
    assert load_bert(folder).shape == SHAPE
    set_config(folder, model_type=None, architectures=["RobertaModel"])
    assert "'model_type'" in refusal(folder)
    set_config(folder, model_type=None, architectures=None)
    assert "'model_type'" in refusal(folder)


def test_shape_of_a_folder(folder: Path) -> None:
    assert shape_of(read_stated(folder)) == SHAPE
    set_config(folder, max_position_embeddings=None, type_vocab_size=None, hidden_act=None, layer_norm_eps=None)
    assert (
        shape_of(read_stated(folder)).positions,
        shape_of(read_stated(folder)).types,
        shape_of(read_stated(folder)).epsilon,
    ) == (512, 2, 1e-12)


def test_the_tokenizer_is_written_as_it_stands(tmp_path: Path) -> None:
    tokens = [{"id": 0, "content": "[PAD]"}, {"id": 1, "content": "[CLS]"}]
    text = json.dumps({"added_tokens": tokens, "model": {"vocab": {"é": 2}}}, ensure_ascii=False)
    save_bert(Bert(SHAPE), tmp_path, text)
    assert (tmp_path / "tokenizer.json").read_text(encoding="utf-8") == text
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["pad_token"] == "[PAD]"
    assert settings["cls_token"] == "[CLS]"
    assert "mask_token" not in settings
    assert settings["model_max_length"] == 20
