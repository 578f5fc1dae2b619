"""Our BERT against ``transformers.BertModel``, both reading the same folder as float32.

Shapes: N texts of up to L tokens, P tokens in all, D width.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polytask.encoder.bert import load_bert, save_bert
from polytask.encoder.foreign.fetch import locate
from polytask.errors import Unavailable
from polytask.packing import PackedBatch

transformers = pytest.importorskip("transformers")
SHARED = Path(__file__).parents[3] / "shared" / "models" / "bert-base-uncased"
Texts = list[list[int]]


def words(length: int, seed: int, vocabulary: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary // 2, vocabulary, (length,), generator=generator).tolist()


def batches(vocabulary: int, positions: int) -> dict[str, tuple[Texts, Texts]]:
    """Return batches by name, each as texts and their token types."""
    single = [words(11, 0, vocabulary)]
    pairs = [words(n, n, vocabulary) for n in (9, 14, 9)]
    ragged = [words(n, n, vocabulary) for n in (3, 17, 17, 1, 8, 40)]
    one, longest = [words(1, 5, vocabulary)], [words(positions, 6, vocabulary)]
    plain = {"single": single, "ragged": ragged, "one token": one, "longest": longest}
    made = {name: (texts, [[0] * len(text) for text in texts]) for name, texts in plain.items()}
    made["pairs"] = pairs, [[0] * (len(text) // 2) + [1] * (len(text) - len(text) // 2) for text in pairs]
    return made


def theirs(model: Any, texts: Texts, types: Texts) -> tuple[list[Tensor], Tensor | None]:
    """Return the hidden vectors ``(P, D)`` of every layer and the pooler's output, from padded blocks."""
    longest = max(len(text) for text in texts)

    def pad(rows: Texts) -> Tensor:
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    mask_NL = pad([[1] * len(text) for text in texts])
    output = model(
        input_ids=pad(texts),
        token_type_ids=pad(types),
        attention_mask=mask_NL,
        output_hidden_states=True,
        return_dict=True,
    )
    return [block_NLD[mask_NL.bool()] for block_NLD in output.hidden_states], output.pooler_output


def difference(ours: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Return the largest |difference| and what is allowed: 2e-5, or 1e-5 of the largest value where that is more."""
    return (ours - wanted).abs().max().item(), max(2e-5, 1e-5 * wanted.abs().max().item())


@torch.no_grad()
def worst(folder: Path) -> dict[str, float]:
    """Return the largest |difference| for each batch, after checking every layer and the pooler."""
    ours = load_bert(folder).eval()
    model = transformers.BertModel.from_pretrained(
        folder, dtype=torch.float32, add_pooling_layer=ours.has_pooler
    ).eval()
    found: dict[str, float] = {}
    for name, (texts, types) in batches(ours.shape.vocabulary, ours.shape.positions).items():
        output = ours(PackedBatch.pack(texts, types))
        layers, summary = theirs(model, texts, types)
        assert len(output.layers) == len(layers) == ours.shape.layers + 1
        pairs = [*zip(output.layers, layers, strict=True)]
        if summary is not None:
            pairs.append((output.pooled(), summary))
        differences = [difference(mine, wanted) for mine, wanted in pairs]
        assert all(found <= allowed for found, allowed in differences), (name, differences)
        found[name] = max(found for found, _ in differences)
    return found


def small(folder: Path, dtype: torch.dtype, **changes: Any) -> Path:
    """Save a small random BertModel, its LayerNorms and biases away from their starting values, in ``dtype``."""
    sizes = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, intermediate_size=64, max_position_embeddings=64, **changes)
    torch.manual_seed(0)
    model = transformers.BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.to(dtype).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_small_random_model_of_any_float_type(tmp_path: Path, dtype: torch.dtype) -> None:
    assert set(worst(small(tmp_path, dtype))) == {"single", "pairs", "ragged", "one token", "longest"}


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_every_activation(tmp_path: Path, activation: str) -> None:
    worst(small(tmp_path, torch.float32, hidden_act=activation, layer_norm_eps=1e-3))


def test_transformers_reads_what_we_saved(tmp_path: Path) -> None:
    encoder = load_bert(small(tmp_path / "theirs", torch.float32)).eval()
    save_bert(encoder, tmp_path / "ours", None)
    worst(tmp_path / "ours")
    model = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    assert type(model) is transformers.BertModel
    assert model.dtype is torch.float32
    texts, types = batches(90, 64)["pairs"]
    with torch.no_grad():
        ours, (layers, summary) = encoder(PackedBatch.pack(texts, types)), theirs(model, texts, types)
    assert summary is not None
    torch.testing.assert_close(ours.layers[-1], layers[-1], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(ours.pooled(), summary, atol=2e-5, rtol=1e-5)


@pytest.mark.slow
def test_minilm() -> None:
    try:
        folder = locate("minilm")
    except Unavailable as error:
        pytest.skip(str(error))
    worst(folder)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
def test_bert_base() -> None:
    worst(SHARED)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
def test_bert_base_saved_again(tmp_path: Path) -> None:
    save_bert(load_bert(SHARED), tmp_path, (SHARED / "tokenizer.json").read_text(encoding="utf-8"))
    worst(tmp_path)
    tokenizers = [transformers.AutoTokenizer.from_pretrained(os.fspath(folder)) for folder in (tmp_path, SHARED)]
    first, second = (dict(tokenizer("A café, unbelievably.", "Two!")) for tokenizer in tokenizers)
    assert first == second
