"""BERT's own numbers, written out again by hand for one text. Shapes: L tokens, D width."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polytask.encoder.base import LayerNorm, Linear, WordEmbedding
from polytask.encoder.bert import Bert, BertShape
from polytask.packing import PackedBatch

SHAPE = BertShape(vocabulary=40, width=16, layers=2, heads=4, feed_forward=24, positions=12, epsilon=1e-5)


@pytest.fixture
def encoder() -> Bert:
    torch.manual_seed(0)
    made = Bert(SHAPE)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def by_hand(state: dict[str, Tensor], ids_L: list[int], types_L: list[int]) -> tuple[list[Tensor], Tensor]:
    """Return every layer and the pooled vector as Devlin et al. (2018) and Vaswani et al. (2017) write them."""

    def norm(x_LD: Tensor, name: str) -> Tensor:
        centred = x_LD - x_LD.mean(1, keepdim=True)
        scaled = centred / (centred.square().mean(1, keepdim=True) + SHAPE.epsilon).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x_LD: Tensor, name: str) -> Tensor:
        return x_LD @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    x_LD = state["embeddings.word.weight"][ids_L] + state["embeddings.position.weight"][: len(ids_L)]
    x_LD = norm(x_LD + state["embeddings.token_type.weight"][types_L], "embeddings.norm")
    layers, size = [x_LD], SHAPE.width // SHAPE.heads
    for number in range(SHAPE.layers):
        name = f"layers.{number}"
        q_LD, k_LD, v_LD = linear(x_LD, f"{name}.attention.qkv").chunk(3, dim=1)
        mixed = []
        for head in range(SHAPE.heads):
            own = slice(head * size, (head + 1) * size)
            weights_LL = (q_LD[:, own] @ k_LD[:, own].T / math.sqrt(size)).softmax(1)
            mixed.append(weights_LL @ v_LD[:, own])
        x_LD = norm(x_LD + linear(torch.cat(mixed, 1), f"{name}.attention.output"), f"{name}.attention.norm")
        grown_LF = linear(x_LD, f"{name}.feed_forward.up")
        grown_LF = grown_LF * 0.5 * (1 + torch.erf(grown_LF / math.sqrt(2)))
        x_LD = norm(x_LD + linear(grown_LF, f"{name}.feed_forward.down"), f"{name}.feed_forward.norm")
        layers.append(x_LD)
    return layers, torch.tanh(linear(x_LD[:1], "pooler"))[0]


@torch.no_grad()
def test_every_layer_is_what_the_formulas_say(encoder: Bert) -> None:
    ids, types = [3, 17, 17, 30, 2], [0, 0, 0, 1, 1]
    output = encoder(PackedBatch.pack([ids], [types]))
    layers, pooled_D = by_hand(encoder.state_dict(), ids, types)
    for found_LD, wanted_LD in zip(output.layers, layers, strict=True):
        torch.testing.assert_close(found_LD, wanted_LD, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.pooled()[0], pooled_D, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["positions", "types"])
def test_positions_and_token_types_count(encoder: Bert, kind: str) -> None:
    plain = encoder(PackedBatch.pack([[5, 9, 8]])).layers[-1]
    if kind == "types":
        other = encoder(PackedBatch.pack([[5, 9, 8]], [[0, 1, 1]])).layers[-1]
    else:
        other = encoder(PackedBatch.pack([[8, 9, 5]])).layers[-1].flip(0)
    assert not torch.allclose(plain, other, atol=1e-3)


def test_a_text_longer_than_the_positions_is_refused_in_words(encoder: Bert) -> None:
    encoder(PackedBatch.pack([[1] * 12]))
    with pytest.raises(ValueError, match="a text of 13 tokens; this encoder has 12 positions"):
        encoder(PackedBatch.pack([[1] * 13]))


def test_new_weights_are_drawn_as_in_the_paper() -> None:
    torch.manual_seed(0)
    made = Bert(BertShape(vocabulary=300, width=64, layers=2, heads=4, feed_forward=256))
    for name, parameter in made.named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name
            assert abs(parameter.mean().item()) < 0.002, name


def test_a_bert_without_a_pooler_says_so() -> None:
    made = Bert(SHAPE, pooler=False)
    assert not made.has_pooler
    assert made.pooler_parameters() == []
    with pytest.raises(ValueError, match="no pooler"):
        made(PackedBatch.pack([[1, 2]])).pooled()


@pytest.mark.parametrize(("change", "told"), [({"activation": "swish"}, "gelu"), ({"heads": 5}, "5 heads")])
def test_a_shape_that_cannot_be_is_refused(change: dict[str, object], told: str) -> None:
    shape = BertShape(**{**SHAPE.__dict__, **change})
    with pytest.raises(ValueError, match=told):
        Bert(shape)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations_are_torchs(activation: str) -> None:
    from polytask.encoder.bert import ACTIVATIONS

    x = torch.linspace(-3, 3, 50)
    wanted = {"gelu": F.gelu(x), "gelu_new": nn.GELU("tanh")(x), "relu": x.clamp(min=0)}[activation]
    assert torch.equal(ACTIVATIONS[activation](x), wanted)


def test_layers_count_from_the_embeddings_to_the_pooler(encoder: Bert) -> None:
    assert encoder.depth == 2
    assert encoder.layer_of("embeddings.word.weight") == 0
    assert encoder.layer_of("layers.0.attention.qkv.weight") == 1
    assert encoder.layer_of("layers.1.feed_forward.norm.bias") == 2
    assert encoder.layer_of("pooler.weight") == 3


def test_matrix_products_alone_are_shadowed(encoder: Bert) -> None:
    shadowed = {id(parameter) for parameter in encoder.shadowed()}
    wanted = {id(p) for m in encoder.modules() if isinstance(m, nn.Linear) for p in m.parameters()}
    assert shadowed == wanted
    assert id(encoder.embeddings.word.weight) not in shadowed


def test_a_linear_layer_follows_the_type_of_its_input() -> None:
    layer = Linear(4, 3)
    assert layer(torch.ones(2, 4, dtype=torch.bfloat16)).dtype is torch.bfloat16
    assert torch.equal(layer(torch.ones(2, 4)), F.linear(torch.ones(2, 4), layer.weight, layer.bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_norm_keeps_the_type_of_its_input(dtype: torch.dtype) -> None:
    norm = LayerNorm(8)
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = F.layer_norm(x.double(), (8,), norm.weight.double(), norm.bias.double(), norm.eps)
    assert norm(x).dtype is dtype
    torch.testing.assert_close(norm(x).double(), wanted, atol=2e-6 if dtype is torch.float32 else 2e-2, rtol=0)


def test_words_are_looked_up_plainly_where_no_gradient_is_wanted() -> None:
    table = WordEmbedding(6, 3)
    table.gradient_VD = torch.zeros(6, 3)
    with torch.no_grad():
        assert not table(torch.tensor([1, 5])).requires_grad
    table.weight.requires_grad_(False)
    assert not table(torch.tensor([1, 5])).requires_grad


def test_a_buffer_of_another_type_takes_the_words_gradient() -> None:
    table = WordEmbedding(6, 3)
    table.gradient_VD = torch.zeros(6, 3)
    torch.autograd.backward(table(torch.tensor([1, 5, 1])).bfloat16().sum())
    assert table.gradient_VD.sum(1).tolist() == [0.0, 6.0, 0.0, 0.0, 0.0, 3.0]


def test_layers_that_nobody_reads_are_not_computed(encoder: Bert) -> None:
    computed: list[int] = []
    for number, layer in enumerate(encoder.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: computed.append(number))
    output = encoder(PackedBatch.pack([[1, 2, 3], [4, 5]]))
    assert (computed, len(output.layers)) == ([], encoder.depth + 1)
    lowest = output.layers[1]
    assert computed == [1]
    output.pooled()
    assert output.layers[1] is lowest
    assert len(output.layers[1:]) == encoder.depth
    assert computed == list(range(1, encoder.depth + 1))
    with pytest.raises(IndexError):
        output.layers[encoder.depth + 1]
