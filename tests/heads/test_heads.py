"""What every head promises. Shapes: N rows, D width, C logits."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from polytask.errors import RecipeError
from polytask.heads.logits.base import Head, heads

WIDTH, OUTPUTS = 6, 3


def new(name: str, **options: Any) -> Head:
    torch.manual_seed(0)
    return heads.create(name, WIDTH, OUTPUTS, **options)


def some(rows: int = 5) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(1))


LEARNED = [name for name in heads.names() if heads.member(name).gives == "logits"]


@pytest.fixture(params=LEARNED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_vector_becomes_float32_logits(name: str, rows: int) -> None:
    head = new(name)
    assert (head.width, head.outputs) == (WIDTH, OUTPUTS)
    logits_NC = head(some(rows))
    assert logits_NC.shape == (rows, OUTPUTS)
    assert logits_NC.dtype is torch.float32


def test_rows_do_not_see_each_other(name: str) -> None:
    head = new(name).eval()
    torch.testing.assert_close(head(some())[2:3], head(some()[2:3]))


def test_the_gradient_reaches_inputs_and_parameters(name: str) -> None:
    head, vectors_ND = new(name).eval(), some().requires_grad_()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    torch.autograd.backward((head(vectors_ND) ** 2).sum())
    assert vectors_ND.grad is not None
    assert vectors_ND.grad.abs().sum(1).all()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_its_state_comes_back(name: str) -> None:
    head = new(name).eval()
    torch.manual_seed(1)
    again = heads.create(name, WIDTH, OUTPUTS).eval()
    assert not torch.equal(again(some()), head(some()))
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(some()), head(some()))


def test_dropout_follows_the_seed_and_stops_in_evaluation(name: str) -> None:
    head = new(name, dropout=0.5)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        out: Tensor = head(some())
        return out

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    head.eval()
    assert torch.equal(run(1), run(2))


def test_new_weights_are_small_and_biases_zero(name: str) -> None:
    torch.manual_seed(0)
    head = heads.create(name, 200, 50)
    assert head.get_parameter("output.weight").std().item() == pytest.approx(0.02, rel=0.1)
    assert not any(bias.any() for key, bias in head.named_parameters() if key.endswith("bias"))


def test_hidden_layers_keep_a_vectors_length_however_many_there_are() -> None:
    torch.manual_seed(0)
    head = heads.create("mlp", 200, 1, layers=10, dropout=0.0)
    vectors_ND = torch.randn(50, 200)
    lengths = []
    head.get_submodule("output").register_forward_pre_hook(lambda _, given: lengths.append(given[0].norm(dim=1).mean()))
    head(vectors_ND)
    assert 0.3 < lengths[0] / vectors_ND.norm(dim=1).mean() < 3


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_rate_of_dropout_that_cannot_be_is_refused_when_the_recipe_is_read(name: str, rate: float) -> None:
    with pytest.raises(RecipeError, match="dropout is"):
        new(name, dropout=rate)


def test_members_differ_pairwise() -> None:
    found = {name: new(name).eval()(some()) for name in LEARNED}
    for a, b in combinations(found, 2):
        assert not torch.allclose(found[a], found[b]), f"{a} and {b} are the same"


def test_a_head_that_is_given_a_cosine_passes_it_on() -> None:
    head = heads.create("cosine", 1, 1)
    cosine_N1 = some()[:, :1].requires_grad_()
    assert head(cosine_N1) is cosine_N1
    assert not list(head.parameters())
    assert (head.gives, head.features) == ("cosine", ("cosine",))


@pytest.mark.parametrize("shape", [(WIDTH, 1), (1, OUTPUTS)])
def test_a_cosine_is_one_number(shape: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match=f"was given {shape[0]} and asked for {shape[1]}"):
        heads.create("cosine", *shape)


def test_linear_by_hand() -> None:
    head = new("linear").eval()
    weight_CD, bias_C = (head.state_dict()[f"output.{part}"] for part in ("weight", "bias"))
    torch.testing.assert_close(head(some()), some() @ weight_CD.T + bias_C)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_mlp_by_hand(activation: str) -> None:
    head = new("mlp", layers=2, hidden=4, activation=activation).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    state, x = head.state_dict(), some()
    for layer in ("layers.0", "layers.1"):
        x = x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
        x = x.clamp(min=0) if activation == "relu" else x * torch.special.ndtr(x)
    torch.testing.assert_close(head(some()), x @ state["output.weight"].T + state["output.bias"])


def test_an_mlp_is_as_wide_as_its_input_unless_told() -> None:
    assert new("mlp").state_dict()["layers.0.weight"].shape == (WIDTH, WIDTH)
    assert new("mlp", hidden=9).state_dict()["layers.0.weight"].shape == (9, WIDTH)


@pytest.mark.parametrize("option", [{"layers": 0}, {"layers": -2}, {"hidden": 0}, {"hidden": -3}])
def test_an_mlp_without_hidden_units_is_refused(option: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=f"{next(iter(option))} is {next(iter(option.values()))}"):
        new("mlp", **option)
