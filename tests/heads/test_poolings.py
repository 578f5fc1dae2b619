"""What every pooling promises, and each one's numbers, text by text. Shapes: N texts, P tokens, D width."""

from __future__ import annotations

import copy
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from polytask.errors import RecipeError
from polytask.heads.pooling.base import Pooling, poolings
from polytask.packing import EncoderOutput, PackedBatch, Tokens

WIDTH = 6
LENGTHS = (3, 1, 1, 5)


LAYERED = [name for name in poolings.names() if "layers" in poolings.options(name)]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in poolings.names()),
    ("attention", {"over": "all"}),
    ("attention", {"scale": "root"}),
    ("dot_attention", {"scale": "root"}),
    *((name, {"layers": "all"}) for name in LAYERED),
    *((name, {"layers": [0, 2]}) for name in LAYERED),
]


@pytest.fixture(params=VARIANTS, ids=str)
def pooling(request: pytest.FixtureRequest) -> Pooling:
    return new(*request.param)


def new(name: str, options: dict[str, Any]) -> Pooling:
    """Return a pooling whose weights, if it has any, are not nearly nothing."""
    torch.manual_seed(0)
    made = poolings.create(name, WIDTH, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def hidden(dtype: torch.dtype = torch.float32, lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    return torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)


def output_of(hidden_PD: Tensor, lengths: tuple[int, ...] = LENGTHS) -> EncoderOutput:
    """Return an output whose layers are functions of the last one, and whose pooled vector is twice the first token."""
    return EncoderOutput(batch_of(lengths), (3 * hidden_PD.sin(), hidden_PD**2 - 1, hidden_PD), twice_the_first)


def batch_of(lengths: tuple[int, ...] = LENGTHS) -> PackedBatch:
    return PackedBatch.pack([[0] * length for length in lengths])


def twice_the_first(tokens: Tokens) -> Tensor:
    return 2 * tokens.first()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_text_becomes_one_float32_vector(pooling: Pooling, dtype: torch.dtype) -> None:
    vectors_ND = pooling(output_of(hidden(dtype)))
    assert vectors_ND.shape == (len(LENGTHS), pooling.width)
    assert vectors_ND.dtype is torch.float32
    assert vectors_ND.isfinite().all()


def test_a_batch_of_one_text_is_that_texts_row_of_a_larger_one(pooling: Pooling) -> None:
    alone_ND = pooling(output_of(hidden()[-5:], (5,)))
    assert alone_ND.shape == (1, pooling.width)
    torch.testing.assert_close(pooling(output_of(hidden()))[3], alone_ND[0])


def test_the_gradient_reaches_every_text(pooling: Pooling) -> None:
    hidden_PD = hidden().requires_grad_()
    torch.autograd.backward((pooling(output_of(hidden_PD)) ** 2).sum())
    assert hidden_PD.grad is not None
    ends = torch.tensor(LENGTHS).cumsum(0).tolist()
    for end, length in zip(ends, LENGTHS, strict=True):
        assert hidden_PD.grad[end - length : end].any()


def test_padding_does_not_matter(pooling: Pooling) -> None:
    hidden_PD, packed = hidden(), batch_of()
    padded_NLD = torch.full((4, 5, WIDTH), 50.0)
    padded_NLD[packed.mask()] = hidden_PD
    stream_PD = padded_NLD.flatten(0, 1)
    padded = EncoderOutput(packed.padded(), (3 * stream_PD.sin(), stream_PD**2 - 1, stream_PD), twice_the_first)
    torch.testing.assert_close(pooling(padded), pooling(output_of(hidden_PD)))


def test_it_says_whether_it_reads_the_pooler(pooling: Pooling) -> None:
    asked = []
    plain = output_of(hidden())

    def pooler(tokens: Tokens) -> Tensor:
        asked.append(tokens)
        return twice_the_first(tokens)

    pooling(EncoderOutput(plain.batch, plain.layers, pooler))
    assert bool(asked) == pooling.uses_pooler


def test_its_state_comes_back(pooling: Pooling) -> None:
    again = copy.deepcopy(pooling)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict(pooling.state_dict())
    assert torch.equal(again(output_of(hidden())), pooling(output_of(hidden())))


def test_members_differ_pairwise() -> None:
    found = {str(variant): new(*variant)(output_of(hidden())) for variant in VARIANTS}
    for a, b in combinations(found, 2):
        assert found[a].shape != found[b].shape or not torch.allclose(found[a], found[b]), f"{a} and {b} are the same"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cls", [[2.0, -2.0], [14.0, 4.0]]),
        ("mean", [[2.0, -3.0], [7.0, 2.0]]),
        ("max", [[3.0, -1.0], [7.0, 2.0]]),
        ("first", [[1.0, -1.0], [7.0, 2.0]]),
    ],
)
def test_values_by_hand(name: str, wanted: list[list[float]]) -> None:
    hidden_PD = torch.tensor([[1.0, -1.0], [3.0, -5.0], [7.0, 2.0]])
    assert poolings.create(name, 2)(output_of(hidden_PD, (2, 1))).tolist() == wanted


@pytest.mark.parametrize(("name", "theirs"), [("mean", "mean"), ("max", "max"), ("first", "cls")])
def test_values_are_those_of_sentence_transformers(name: str, theirs: Any) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling as Theirs

    mask_NL = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    padded_NLD = torch.full((*mask_NL.shape, WIDTH), 50.0)
    padded_NLD[mask_NL] = hidden()
    wanted = Theirs(WIDTH, theirs)({"token_embeddings": padded_NLD, "attention_mask": mask_NL.long()})
    torch.testing.assert_close(poolings.create(name, WIDTH)(output_of(hidden())), wanted["sentence_embedding"])


def test_a_long_mean_is_summed_in_float32() -> None:
    hidden_PD = torch.full((4000, 1), 1.0078125, dtype=torch.bfloat16)
    assert poolings.create("mean", 1)(output_of(hidden_PD, (4000,))).item() == pytest.approx(1.0078125, rel=1e-5)


def texts_of(layer_PD: Tensor) -> list[Tensor]:
    return list(torch.split(layer_PD, list(LENGTHS)))


def weighted(text_LD: Tensor, query_D: Tensor) -> Tensor:
    """Return Σ α_t h_t with α_t = exp(⟨q, h_t⟩) / Σ exp(⟨q, h_i⟩), token by token."""
    odds = [torch.exp((query_D * token_D).sum()) for token_D in text_LD]
    return sum((o / sum(odds) * token_D for o, token_D in zip(odds, text_LD, strict=True)), torch.zeros(WIDTH))


@pytest.mark.parametrize("scale", ["none", "root"])
@pytest.mark.parametrize("over", ["rest", "all"])
def test_attention_is_equations_1_to_3_of_its_report(scale: str, over: str) -> None:
    hidden_PD = hidden()
    factor = 1.0 if scale == "none" else WIDTH**-0.5
    wanted = []
    for text_LD in texts_of(hidden_PD):
        tokens_LD = text_LD if over == "all" else text_LD[1:]
        wanted.append(text_LD[0] + weighted(tokens_LD, factor * text_LD[0]))
    found_ND = new("attention", {"scale": scale, "over": over})(output_of(hidden_PD))
    torch.testing.assert_close(found_ND, torch.stack(wanted))


@pytest.mark.parametrize(("scale", "factor"), [("none", 1.0), ("root", WIDTH**-0.5)])
def test_dot_attention_text_by_text(scale: str, factor: float) -> None:
    wanted = [weighted(text_LD, factor * text_LD[0]) for text_LD in texts_of(hidden())]
    torch.testing.assert_close(new("dot_attention", {"scale": scale})(output_of(hidden())), torch.stack(wanted))


def test_multiplicative_attention_text_by_text() -> None:
    pooling = new("multiplicative_attention", {})
    query_D = pooling.state_dict()["query"]
    wanted = [weighted(text_LD, query_D) for text_LD in texts_of(hidden())]
    torch.testing.assert_close(pooling(output_of(hidden())), torch.stack(wanted))


def test_attention_that_learns_begins_near_the_mean_and_learns() -> None:
    torch.manual_seed(0)
    pooling = poolings.create("multiplicative_attention", WIDTH)
    found_ND = pooling(output_of(hidden()))
    torch.testing.assert_close(found_ND, poolings.create("mean", WIDTH)(output_of(hidden())), atol=0.1, rtol=0)
    torch.autograd.backward((found_ND**2).sum())
    assert [bool(parameter.grad is not None and parameter.grad.all()) for parameter in pooling.parameters()] == [True]


def test_attention_over_long_vectors_of_large_norm_stays_finite() -> None:
    hidden_PD = (100 * hidden()).requires_grad_()
    for name in ("attention", "dot_attention", "multiplicative_attention"):
        found_ND = new(name, {})(output_of(hidden_PD))
        torch.autograd.backward(found_ND.sum(), inputs=[hidden_PD])
        assert found_ND.isfinite().all()
    assert hidden_PD.grad is not None
    assert hidden_PD.grad.isfinite().all()


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize(("layers", "chosen"), [("last", [3]), ("all", [1, 2, 3]), ([0, 2], [0, 2]), ([1], [1])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_over_layers_is_taken_token_by_token_and_only_they_get_a_gradient(
    name: str, layers: Any, chosen: list[int], dtype: torch.dtype
) -> None:
    stack = [torch.randn(hidden().shape, generator=torch.Generator().manual_seed(n)).to(dtype) for n in range(4)]
    mean_PD = torch.stack([stack[n].float() for n in chosen]).mean(0)
    leaves = [layer.requires_grad_() for layer in stack]
    output = EncoderOutput(batch_of(), leaves, twice_the_first)
    found_ND = new(name, {"layers": layers})(output)
    torch.testing.assert_close(found_ND, new(name, {})(output_of(mean_PD)))
    torch.autograd.backward((found_ND**2).sum())
    assert [n for n, leaf in enumerate(leaves) if leaf.grad is not None and leaf.grad.any()] == chosen
    assert [n for n, leaf in enumerate(leaves) if leaf.grad is not None] == chosen
    assert new(name, {"layers": layers}).reads(3) == chosen


def test_a_pooling_says_which_layers_it_reads() -> None:
    assert poolings.create("cls", WIDTH).reads(12) == [12]
    assert poolings.create("mean", WIDTH, layers="all").reads(2) == [1, 2]
    assert poolings.create("mean", WIDTH, layers="all").reads(0) == [0]
    with pytest.raises(ValueError, match="layers has 13; the encoder has 12"):
        poolings.create("mean", WIDTH, layers=[1, 13]).reads(12)


@pytest.mark.parametrize("layers", [[], [-1], [2, 2], "first", ["x"], 3])
def test_layers_that_cannot_be_are_refused(layers: Any) -> None:
    with pytest.raises(RecipeError, match="layers"):
        poolings.create("mean", WIDTH, layers=layers)
