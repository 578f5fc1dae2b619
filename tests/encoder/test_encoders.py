"""What every encoder promises. Shapes: N texts, P tokens of a packed batch, D width."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from polytask.assembly.encoder import rebuild_encoder
from polytask.encoder.base import Encoder
from polytask.encoder.bert import Bert, BertShape
from polytask.encoder.lstm import BiLstm
from polytask.packing import EncoderOutput, PackedBatch

VOCABULARY = 40
LENGTHS = (6, 2, 2, 9, 1, 6)
SHAPE = BertShape(vocabulary=VOCABULARY, width=16, layers=3, heads=4, feed_forward=24, positions=12)
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "bert": lambda: Bert(SHAPE, dropout=0.3, attention_dropout=0.2),
    "lstm": lambda: BiLstm(VOCABULARY, embedding=12, hidden=8, layers=2, dropout=0.4),
}


@pytest.fixture(params=list(ENCODERS))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """A small encoder of each kind, in which no two numbers are alike, without dropout."""
    torch.manual_seed(0)
    made = ENCODERS[request.param]()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def some_texts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def pack(texts: list[list[int]]) -> PackedBatch:
    return PackedBatch.pack(texts, [[0] * (len(text) // 2) + [1] * (len(text) - len(text) // 2) for text in texts])


def everything(output: EncoderOutput) -> list[Tensor]:
    return [*output.layers, output.pooled()]


def parts(stream_PD: Tensor, lengths: tuple[int, ...]) -> list[Tensor]:
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [stream_PD[end - length : end] for end, length in zip(ends, lengths, strict=True)]


@torch.no_grad()
def test_a_text_in_a_ragged_batch_is_what_it_is_alone(encoder: Encoder) -> None:
    texts = some_texts()
    together = encoder(pack(texts))
    for number, text in enumerate(texts):
        alone = encoder(pack([text]))
        for layer, alone_LD in zip(together.layers, alone.layers, strict=True):
            torch.testing.assert_close(parts(layer, LENGTHS)[number], alone_LD, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(together.pooled()[number], alone.pooled()[0], atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_the_order_of_texts_does_not_matter(encoder: Encoder) -> None:
    texts, order = some_texts(), [3, 0, 5, 4, 2, 1]
    shuffled = tuple(LENGTHS[place] for place in order)
    here, there = encoder(pack(texts)), encoder(pack([texts[place] for place in order]))
    torch.testing.assert_close(here.pooled()[order], there.pooled(), atol=2e-6, rtol=1e-5)
    wanted_PD = torch.cat([parts(here.layers[-1], LENGTHS)[place] for place in order])
    torch.testing.assert_close(wanted_PD, there.layers[-1], atol=2e-6, rtol=1e-5)
    assert [len(part) for part in parts(there.layers[-1], shuffled)] == list(shuffled)


@torch.no_grad()
def test_tokens_see_each_other_within_a_text_and_never_across(encoder: Encoder) -> None:
    texts = some_texts()
    changed = [list(text) for text in texts]
    changed[3][4] = (changed[3][4] + 1) % VOCABULARY
    before, after = (parts(encoder(pack(some)).layers[-1], LENGTHS) for some in (texts, changed))
    for number in range(len(texts)):
        assert torch.equal(before[number], after[number]) == (number != 3)
    assert (before[3] != after[3]).any(1).all()


def test_there_is_a_layer_for_the_embeddings_and_one_for_each_layer(encoder: Encoder) -> None:
    batch = pack(some_texts())
    output = encoder(batch)
    assert len(output.layers) == encoder.depth + 1
    assert output.layers[-1].shape == (sum(LENGTHS), encoder.width)
    assert output.pooled().shape == (len(LENGTHS), encoder.width)
    assert output.tokens().first().shape == (len(LENGTHS), encoder.width)
    assert output.tokens().lengths_N.tolist() == list(LENGTHS)
    assert encoder.embed(batch).shape[0] == sum(LENGTHS)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_zero_noise_on_the_embeddings_is_exactly_the_clean_pass(encoder: Encoder, mode: str) -> None:
    batch = pack(some_texts())
    encoder.train(mode == "train")
    torch.manual_seed(5)
    clean = everything(encoder(batch))
    words_PD = encoder.embed(batch)
    torch.manual_seed(5)
    again = everything(encoder(batch, words_PD + torch.zeros_like(words_PD)))
    assert all(torch.equal(a, b) for a, b in zip(clean, again, strict=True))


def test_noise_on_the_embeddings_arrives_and_sends_its_gradient_back(encoder: Encoder) -> None:
    batch = pack(some_texts())
    noise_PD = (1e-2 * torch.randn_like(encoder.embed(batch))).requires_grad_()
    noisy = encoder(batch, encoder.embed(batch).detach() + noise_PD)
    assert not torch.allclose(noisy.layers[-1], encoder(batch).layers[-1])
    torch.autograd.backward(noisy.layers[-1].square().sum())
    assert noise_PD.grad is not None
    assert noise_PD.grad.abs().sum(1).all()


def test_embeddings_are_looked_up_token_by_token(encoder: Encoder) -> None:
    batch = PackedBatch.pack([[3, 7], [7]], [[0, 1], [0]])
    words_PD = encoder.embed(batch)
    assert torch.equal(words_PD[1], words_PD[2])
    assert not torch.equal(words_PD[0], words_PD[1])


def test_dropout_follows_the_seed_and_stops_in_evaluation(encoder: Encoder) -> None:
    batch = pack(some_texts())

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        last_PD: Tensor = encoder(batch).layers[-1]
        return last_PD.detach()

    assert torch.equal(run(1), run(2))
    encoder.train()
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


@torch.no_grad()
def test_float32_can_be_asked_of_an_encoder_that_computes_in_bfloat16(encoder: Encoder) -> None:
    batch = pack(some_texts())
    exact = encoder(batch)
    encoder.compute = torch.bfloat16
    for parameter in encoder.shadowed():
        parameter.data = parameter.data.bfloat16()
    rough, asked = encoder(batch), encoder(batch, dtype=torch.float32)
    for tensor in everything(asked):
        assert tensor.dtype is torch.float32
        assert tensor.isfinite().all()
    for wanted, close, far in zip(everything(exact), everything(asked), everything(rough), strict=True):
        torch.testing.assert_close(close, wanted, atol=0.05, rtol=0.05)
        torch.testing.assert_close(far.float(), wanted, atol=0.1, rtol=0.1)


@torch.no_grad()
def test_bfloat16_can_be_asked_of_an_encoder_that_computes_in_float32(encoder: Encoder) -> None:
    batch = pack(some_texts())
    wanted, rough = everything(encoder(batch)), everything(encoder(batch, dtype=torch.bfloat16))
    for exact, near in zip(wanted, rough, strict=True):
        assert near.isfinite().all()
        torch.testing.assert_close(near.float(), exact, atol=0.1, rtol=0.1)


def test_every_parameter_has_a_layer_and_every_layer_a_parameter(encoder: Encoder) -> None:
    layers = {name: encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert set(layers.values()) - {encoder.depth + 1} == set(range(encoder.depth + 1))
    below = {name for name, layer in layers.items() if layer == 0}
    assert all("word" in name or name.startswith("embeddings.") for name in below)


def test_gradients_of_a_layer_reach_it_and_all_below_but_none_above(encoder: Encoder) -> None:
    for layer in range(encoder.depth + 1):
        encoder.zero_grad(set_to_none=True)
        torch.autograd.backward(encoder(pack(some_texts())).layers[layer].square().sum())
        for name, parameter in encoder.named_parameters():
            assert (parameter.grad is not None) == (encoder.layer_of(name) <= layer), name


def test_a_summary_can_be_had_of_any_layer_or_says_why_not(encoder: Encoder) -> None:
    output = encoder.eval()(pack(some_texts()))
    if not encoder.pools_any_layer:
        with pytest.raises(ValueError, match="reads its last layer"):
            output.pooled(output.layers[1])
        return
    torch.testing.assert_close(output.pooled(output.layers[-1]), output.pooled())
    lower_ND = output.pooled(output.layers[-2] if encoder.depth > 1 else output.layers[0])
    assert lower_ND.shape == output.pooled().shape
    assert not torch.allclose(lower_ND, output.pooled())


def test_only_the_summary_uses_its_own_parameters(encoder: Encoder) -> None:
    torch.autograd.backward(encoder(pack(some_texts())).layers[-1].square().sum())
    assert all(parameter.grad is None for parameter in encoder.pooler_parameters())
    torch.autograd.backward(encoder(pack(some_texts())).pooled().square().sum())
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    own = {id(parameter) for parameter in encoder.pooler_parameters()}
    for name, parameter in encoder.named_parameters():
        assert (encoder.layer_of(name) > encoder.depth) == (id(parameter) in own), name


@torch.no_grad()
def test_its_description_builds_it_again(encoder: Encoder) -> None:
    again = rebuild_encoder(json.loads(json.dumps(encoder.describe())))
    assert again.describe() == encoder.describe()
    again.load_state_dict(encoder.state_dict())
    batch = pack(some_texts())
    assert torch.equal(again.eval()(batch).pooled(), encoder(batch).pooled())


def test_a_text_of_one_token_and_a_batch_of_one_text_are_no_special_cases(encoder: Encoder) -> None:
    output = encoder(pack([[5]]))
    assert output.layers[-1].shape == (1, encoder.width)
    assert output.pooled().isfinite().all()


@pytest.mark.parametrize("frozen", [False, True])
def test_the_words_gradient_lands_in_a_given_buffer_as_autograd_would_have_it(encoder: Encoder, frozen: bool) -> None:
    batch = pack(some_texts())
    table = next(module for module in encoder.modules() if hasattr(module, "gradient_VD"))
    assert isinstance(table, torch.nn.Embedding)

    def backward() -> None:
        torch.autograd.backward(encoder(batch).layers[-1].square().sum())

    table.weight.requires_grad_(not frozen)
    backward()
    wanted_VD = torch.zeros_like(table.weight) if table.weight.grad is None else table.weight.grad.clone()
    encoder.zero_grad(set_to_none=True)
    buffer_VD = torch.full_like(table.weight, 0.5)
    table.gradient_VD = buffer_VD
    backward()
    backward()
    assert table.weight.grad is None
    torch.testing.assert_close(buffer_VD, 0.5 + 2 * wanted_VD)
    assert bool(wanted_VD.any()) is not frozen
