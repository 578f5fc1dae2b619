"""Other encoders through ``transformers``: same numbers as their own forward pass, and the promises of an encoder.

Shapes: N texts of up to L tokens, P tokens in all, D width.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask.encoder.auto import AutoEncoder, build_auto, load_auto, save_auto
from polytask.errors import CheckpointError, Unavailable
from polytask.packing import PackedBatch

transformers = pytest.importorskip("transformers")
SIZES = {"vocab_size": 80, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
    "max_position_embeddings": 48,
}
MODELS: dict[str, dict[str, Any]] = {
    "roberta": {"max_position_embeddings": 50, "type_vocab_size": 1, "pad_token_id": 1},
    "mpnet": {"max_position_embeddings": 50, "pad_token_id": 1},
    "electra": {"max_position_embeddings": 48, "embedding_size": 16},
    "deberta-v2": DEBERTA_V3,
    "modernbert": {"max_position_embeddings": 48, "pad_token_id": 0, "local_attention": 8},
    "bert": {"max_position_embeddings": 48},
}
POOLED = ("roberta", "mpnet", "bert")
TYPED = ("electra", "bert")
LENGTHS = (7, 3, 3, 1, 12, 20)
TOKENIZER = '{"added_tokens": [{"id": 0, "content": "<s>", "special": true}], "model": {}}'


@contextmanager
def quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random model, called after its kind."""
    place: Path = tmp_path_factory.mktemp("auto") / request.param
    with quietly():
        config = transformers.AutoConfig.for_model(request.param, **{**SIZES, **MODELS[request.param]})
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("one") / "roberta"
    transformers.RobertaModel(transformers.RobertaConfig(**{**SIZES, **MODELS["roberta"]})).save_pretrained(place)
    return place


def ragged(kind: str) -> PackedBatch:
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(5, 80, (length,), generator=generator).tolist() for length in LENGTHS]
    second = 1 if kind in TYPED else 0
    return PackedBatch.pack(texts, [[0] * (n // 2) + [second] * (n - n // 2) for n in LENGTHS])


@torch.no_grad()
def theirs(folder: Path, batch: PackedBatch) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Return hidden vectors ``(P, D)``, last hidden state and pooled output of the model fed with padded ids."""
    with quietly():
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def pad(stream_P: Tensor, value: int) -> Tensor:
        texts = torch.split(stream_P, list(batch.lengths))
        return torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=value)

    mask_NL = pad(torch.ones_like(batch.ids_P), 0)
    types = {"token_type_ids": pad(batch.types_P, 0)} if folder.name in TYPED else {}
    ids_NL = pad(batch.ids_P, model.config.pad_token_id or 0)
    output = model(input_ids=ids_NL, attention_mask=mask_NL, output_hidden_states=True, return_dict=True, **types)
    real = mask_NL.bool()
    hidden = [block_NLD[real] for block_NLD in output.hidden_states]
    return hidden, output.last_hidden_state[real], getattr(output, "pooler_output", None)


@torch.no_grad()
def test_the_same_numbers_as_the_model_gives_for_ids(folder: Path) -> None:
    batch = ragged(folder.name)
    encoder = load_auto(folder).eval()
    output = encoder(batch)
    hidden, last, pooled = theirs(folder, batch)
    assert len(output.layers) == len(hidden) == 3
    for mine, wanted in zip(output.layers, [*hidden[:-1], last], strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)
    assert encoder.has_pooler == (pooled is not None) == (folder.name in POOLED)
    if pooled is not None:
        torch.testing.assert_close(output.pooled(), pooled, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_text_does_not_see_its_neighbours(folder: Path) -> None:
    batch = ragged(folder.name)
    encoder = load_auto(folder).eval()
    together = encoder(batch).layers[-1].split(LENGTHS)
    for i, length in enumerate(LENGTHS):
        part = slice(sum(LENGTHS[:i]), sum(LENGTHS[: i + 1]))
        alone = PackedBatch.pack([batch.ids_P[part].tolist()], [batch.types_P[part].tolist()])
        assert together[i].shape == (length, encoder.width)
        torch.testing.assert_close(encoder(alone).layers[-1], together[i], atol=1e-5, rtol=0)


def test_given_embeddings_take_the_place_of_the_table(folder: Path) -> None:
    batch = ragged(folder.name)
    encoder = load_auto(folder).eval()
    words_PE = encoder.embed(batch).detach().requires_grad_()
    output = encoder(batch, words_PE)
    torch.testing.assert_close(output.layers[-1], encoder(batch).layers[-1], atol=0, rtol=0)
    output.layers[-1].square().sum().backward()
    assert words_PE.grad is not None
    assert bool((words_PE.grad.abs().sum(1) > 0).all())


def test_every_parameter_has_a_layer(folder: Path) -> None:
    encoder = load_auto(folder)
    assert encoder.depth == 2
    places = {name: encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert set(places.values()) <= {0, 1, 2, 3}
    assert {1, 2} <= set(places.values())
    assert all(place == 0 for name, place in places.items() if "embeddings" in name)
    assert all(place == 3 for name, place in places.items() if "pooler" in name or "final_norm" in name)
    summary = {id(parameter) for parameter in encoder.pooler_parameters()}
    assert bool(summary) == encoder.has_pooler


@torch.no_grad()
def test_saved_and_loaded_gives_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    encoder = load_auto(folder).eval()
    save_auto(encoder, tmp_path / folder.name, TOKENIZER)
    batch = ragged(folder.name)
    assert torch.equal(load_auto(tmp_path / folder.name).eval()(batch).layers[-1], encoder(batch).layers[-1])
    torch.testing.assert_close(theirs(tmp_path / folder.name, batch)[1], encoder(batch).layers[-1], atol=1e-5, rtol=0)
    settings = json.loads((tmp_path / folder.name / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert ("token_type_ids" in settings["model_input_names"]) == (folder.name in TYPED)
    assert settings["model_max_length"] == 48
    assert settings["cls_token"] == "<s>"


@torch.no_grad()
def test_built_again_from_its_description(folder: Path) -> None:
    encoder = load_auto(folder).eval()
    description = json.loads(json.dumps(encoder.describe()))
    again = build_auto(description).eval()
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in encoder.state_dict().items()}
    again.load_state_dict(encoder.state_dict())
    batch = ragged(folder.name)
    assert torch.equal(again(batch).layers[-1], encoder(batch).layers[-1])


def test_the_longest_text_fits_and_a_longer_one_is_refused(folder: Path) -> None:
    encoder = load_auto(folder).eval()
    assert encoder.positions == 48
    assert encoder(PackedBatch.pack([[7] * 48])).layers[-1].shape == (48, 32)
    with pytest.raises(ValueError, match="49 tokens; this encoder has 48 positions"):
        encoder(PackedBatch.pack([[7] * 49]))


@torch.no_grad()
def test_bf16_is_near_fp32_and_the_weights_stay_fp32(folder: Path) -> None:
    encoder = load_auto(folder).eval()
    batch = ragged(folder.name)
    exact, rough = encoder(batch).layers[-1], encoder(batch, dtype=torch.bfloat16).layers[-1]
    assert 0 < (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


def test_dropout_is_overridden_everywhere(folder: Path) -> None:
    batch = ragged(folder.name)
    still = load_auto(folder, dropout=0.0).train()
    assert torch.equal(still(batch).layers[-1], still(batch).layers[-1])
    moving = load_auto(folder, dropout=0.3).train()
    assert not torch.equal(moving(batch).layers[-1], moving(batch).layers[-1])


def change(folder: Path, **tensors: Tensor | None) -> None:
    """Replace tensors of a saved model, or drop those that are None."""
    stored = load_file(folder / "model.safetensors") | {k: v for k, v in tensors.items() if v is not None}
    kept = {name: value for name, value in stored.items() if tensors.get(name, value) is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def copy_of(folder: Path, target: Path) -> Path:
    save_auto(load_auto(folder), target, None)
    return target


def test_a_checkpoint_without_pooler_has_no_summary(roberta: Path, tmp_path: Path) -> None:
    folder = copy_of(roberta, tmp_path / "roberta")
    change(folder, **{"pooler.dense.weight": None, "pooler.dense.bias": None})
    encoder = load_auto(folder).eval()
    assert not encoder.has_pooler
    assert encoder.pooler_parameters() == []
    output = encoder(ragged("roberta"))
    with pytest.raises(ValueError, match="no pooler"):
        output.pooled()
    assert not build_auto(encoder.describe()).has_pooler


def test_a_missing_tensor_is_named(roberta: Path, tmp_path: Path) -> None:
    folder = copy_of(roberta, tmp_path / "roberta")
    change(folder, **{"encoder.layer.1.output.dense.weight": None})
    with pytest.raises(CheckpointError, match=r"lacks the tensor 'encoder.layer.1.output.dense.weight'"):
        load_auto(folder)


def test_a_misshapen_tensor_is_named_with_both_shapes(roberta: Path, tmp_path: Path) -> None:
    folder = copy_of(roberta, tmp_path / "roberta")
    change(folder, **{"encoder.layer.1.output.dense.weight": torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match=r"'encoder.layer.1.output.dense.weight' .* \(3, 3\); .* \(32, 48\)"):
        load_auto(folder)


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read by transformers"):
        load_auto(tmp_path)
    with pytest.raises(CheckpointError, match="no folder"):
        load_auto(tmp_path / "nowhere")
    both = {"architecture": "auto", "pooler": False, "config": {"model_type": "bart", "d_model": 16, "vocab_size": 20}}
    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    both["config"] |= {**small, **heads}  # type: ignore[operator]
    with pytest.raises(CheckpointError, match="wanted an encoder"):
        build_auto(both)


def test_code_in_a_checkpoint_is_not_run(roberta: Path, tmp_path: Path) -> None:
    folder = copy_of(roberta, tmp_path / "roberta")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read by transformers"):
        load_auto(folder)
    assert not (tmp_path / "ran").exists()


def test_without_transformers_the_extra_is_named(roberta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Unavailable, match=r"polytask\[hub\]"):
        load_auto(roberta)


def test_loading_is_silent(roberta: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert isinstance(load_auto(roberta), AutoEncoder)
    assert capfd.readouterr() == ("", "")
