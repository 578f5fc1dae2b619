"""SMART by hand on a two-layer net, its balls, its noise, and what public code gets wrong. Shapes as in the module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from polytask.assembly.parts import Parts
from polytask.errors import RecipeError
from polytask.model import Model, TaskView
from polytask.packing import PackedBatch
from polytask.regularizers.base import regularizers
from polytask.regularizers.smart import Ball, Smart, first_noise
from polytask.training.step import Step

Array = NDArray[np.float64]
Tiny = Callable[..., dict[str, Any]]
NetView = Callable[[str], TaskView]
Begun = Callable[..., tuple[Step, Parts]]
ViewOf = Callable[..., TaskView]
LookedAt = Callable[..., Parts]

TASKS = ["sentiment", "paraphrase", "similarity"]
KINDS = ["classification", "regression"]
LENGTHS = [2, 3, 3]
STAGE = {"steps": 4, "batch_size": 10, "learning_rate": 1e-3, "mixing": "joint"}


# -- by hand -----------------------------------------------------------------------------------------------------------


class ByHand:
    """The two-layer net and SMART in numpy: s = U mean(tanh(W x)) + b, derivatives written out."""

    def __init__(self, view: TaskView) -> None:
        model, head = view.model, view.model.head("task").head
        self.W = array(model.encoder("task").get_parameter("inner"))
        self.U, self.b = array(head.get_parameter("output.weight")), array(head.get_parameter("output.bias"))
        self.classes = len(self.b) > 1

    def logits(self, words_LD: Array) -> Array:
        return np.asarray(self.U @ np.tanh(words_LD @ self.W.T).mean(0) + self.b)

    def distance(self, perturbed_C: Array, clean_C: Array) -> float:
        if not self.classes:
            return float((perturbed_C - clean_C)[0] ** 2)
        p_C, q_C = softmax(perturbed_C), softmax(clean_C)
        return float((p_C * np.log(p_C / q_C)).sum() + (q_C * np.log(q_C / p_C)).sum())

    def slope(self, words_LD: Array, noise_LD: Array) -> Array:
        """Return ∂ℓₛ / ∂δ by the chain rule."""
        clean_C, hidden_LD = self.logits(words_LD), np.tanh((words_LD + noise_LD) @ self.W.T)
        perturbed_C = self.logits(words_LD + noise_LD)
        if self.classes:
            p_C, q_C = softmax(perturbed_C), softmax(clean_C)
            by_log_p_C = p_C * (np.log(p_C) - np.log(q_C)) + p_C - q_C
            by_logit_C = by_log_p_C - p_C * by_log_p_C.sum()
        else:
            by_logit_C = 2 * (perturbed_C - clean_C)
        return np.asarray((1 - hidden_LD**2) * (self.U.T @ by_logit_C) @ self.W / len(words_LD))

    def penalty(self, words_LD: Array, noise_LD: Array, steps: int, eta: float, radius: float, clip: bool) -> float:
        for _ in range(steps):
            slope_LD = self.slope(words_LD, noise_LD)
            noise_LD = noise_LD + eta * slope_LD / np.abs(slope_LD).max(1, keepdims=True)
            if clip:
                noise_LD = np.clip(noise_LD, -radius, radius)
            else:
                noise_LD = radius * noise_LD / np.abs(noise_LD).max(1, keepdims=True)
        return self.distance(self.logits(words_LD + noise_LD), self.logits(words_LD))


def array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().numpy().astype(np.float64))


def softmax(logits_C: Array) -> Array:
    return np.asarray(np.exp(logits_C) / np.exp(logits_C).sum())


def by_text(stream_PD: Tensor) -> list[Array]:
    return [array(part) for part in torch.split(stream_PD, LENGTHS)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("radius", "onto", "eta"), [(0.3, "scale", 0.2), (0.3, "clip", 0.2), (0.05, "clip", 0.2)])
def test_the_penalty_by_hand(net_view: NetView, kind: str, steps: int, radius: float, onto: Any, eta: float) -> None:
    view = net_view(kind)
    smart = Smart(radius=radius, onto=onto, steps=steps, sigma=0.01, eta=eta, precision="own")
    found_N = smart.penalty(view, view.run())
    hand, (words_PD,) = ByHand(view), view.embeddings()
    (noise_PD,) = first_noise(view, [words_PD])
    wanted = [
        hand.penalty(words_LD, 0.01 * noise_LD, steps, eta, radius, onto == "clip")
        for words_LD, noise_LD in zip(by_text(words_PD), by_text(noise_PD), strict=True)
    ]
    assert min(wanted) > 1e-8
    assert found_N.tolist() == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_papers_radius_by_hand(net_view: NetView, kind: str) -> None:
    view = net_view(kind)
    found_N = Smart(precision="own").penalty(view, view.run())
    hand, (words_PD,) = ByHand(view), view.embeddings()
    (noise_PD,) = first_noise(view, [words_PD])
    wanted = [
        hand.penalty(words_LD, 1e-5 * noise_LD, 1, 1e-3, 1e-5, True)
        for words_LD, noise_LD in zip(by_text(words_PD), by_text(noise_PD), strict=True)
    ]
    assert min(wanted) > 0
    assert found_N.tolist() == pytest.approx(wanted, rel=1e-3)  # the hand's KLs cancel


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_by_finite_differences(net_view: NetView, kind: str) -> None:
    """Through both passes and the word embeddings; the noise counts as given, as in the paper."""
    view = net_view(kind)
    smart = Smart(radius=0.3, precision="own")
    noise = smart.ascend(view, view.run(), view.embeddings())

    def total() -> Tensor:
        clean = view.run()
        return smart.distance(view, smart.reference(view, clean), view.embeddings(), noise).sum()

    parameters = list(view.model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(total(), parameters), strict=True):
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        along = 0.0
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * 1e-5)
                along += sign * total().item() / 2e-5
                parameter.sub_(direction, alpha=sign * 1e-5)
        assert (gradient * direction).sum().item() == pytest.approx(along, rel=1e-6, abs=1e-9)
        if parameter.dim() > 1:
            assert gradient.abs().max() > 1e-4  # a difference of logits knows nothing of their bias


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2])
def test_it_is_above_zero_and_grows_with_the_radius(net_view: NetView, kind: str, steps: int) -> None:
    view = net_view(kind)
    clean = view.run()
    radii = [1e-7, 1e-5, 1e-3, 1e-2, 1e-1, 0.5]
    found = [Smart(radius=radius, steps=steps, precision="own").penalty(view, clean) for radius in radii]
    assert all(bool((penalty_N > 0).all()) for penalty_N in found)
    for smaller_N, larger_N in pairwise(found):
        assert (smaller_N < larger_N).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_ascent_step_makes_it_worse(net_view: NetView, kind: str) -> None:
    view = net_view(kind)
    clean = view.run()
    found = [
        Smart(radius=0.2, onto="clip", eta=0.1, steps=k, precision="own").penalty(view, clean).sum().item()
        for k in (0, 1, 2)
    ]
    assert found[0] < 0.3 * found[1]
    assert found[1] < found[2]


# -- the balls ---------------------------------------------------------------------------------------------------------

BALLS = list(product(["inf", "l2", "l1"], ["token", "text"]))


def sizes(noise_PD: Tensor, norm: str, over: str) -> Iterator[float]:
    order = {"inf": float("inf"), "l2": 2, "l1": 1}[norm]
    for text_LD in torch.split(noise_PD, LENGTHS):
        for part in text_LD if over == "token" else [text_LD]:
            yield float(torch.linalg.vector_norm(part.double(), order))


@pytest.mark.parametrize(("norm", "over"), BALLS)
def test_noise_scaled_onto_a_ball_has_its_radius(net_view: NetView, norm: Any, over: Any) -> None:
    view = net_view("classification")
    for steps, radius in product([0, 1, 2], [1e-5, 0.25, 1.0]):
        smart = Smart(radius=radius, norm=norm, over=over, onto="scale", steps=steps, precision="own")
        (noise_PD,) = smart.ascend(view, view.run(), view.embeddings())
        assert list(sizes(noise_PD, norm, over)) == pytest.approx([radius] * (8 if over == "token" else 3))
    assert bool((smart.penalty(view, view.run()) > 0).all())


@pytest.mark.parametrize(("norm", "over"), BALLS)
def test_clipped_noise_lies_within(norm: Any, over: Any) -> None:
    stream = PackedBatch.pack([[1, 2], [3, 4, 5], [6, 7, 8]])
    noise_PD = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    before = list(sizes(noise_PD, norm, over))
    radius = sorted(before)[len(before) // 2]
    held_PD = Ball(radius, norm, over, "clip").held(noise_PD, stream)
    after = list(sizes(held_PD, norm, over))
    assert max(after) <= radius * (1 + 1e-6)
    assert after == pytest.approx([min(size, radius) for size in before])
    if norm == "inf":
        assert torch.equal(held_PD, noise_PD.clamp(-radius, radius))
    inside_PD = noise_PD * 1e-3
    assert torch.equal(Ball(radius, norm, over, "clip").held(inside_PD, stream), inside_PD)


@pytest.mark.parametrize(("norm", "over"), BALLS)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_directions_of_anything(norm: Any, over: Any, size: float) -> None:
    stream = PackedBatch.pack([[1, 2], [3, 4, 5], [6, 7, 8]])
    noise_PD = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)) * size
    found = list(sizes(Ball(1.0, norm, over, "scale").direction(noise_PD, stream), norm, over))
    assert found == pytest.approx([float(size > 0)] * len(found), rel=1e-5)


# -- what public code gets wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", ["same", "off"])
@pytest.mark.parametrize("radius", ["paper", "unit"])
def test_zero_noise_is_the_clean_pass_to_the_bit(
    looked_at: LookedAt, view_of: ViewOf, task: str, precision: str, dropout: Any, radius: Any
) -> None:
    parts = looked_at(precision, 0.1)
    view = view_of(parts, task)
    smart = Smart(radius=radius, dropout=dropout, sigma=0.0)
    assert not smart.penalty(view, view.run()).any()
    noisy_N = Smart(radius=radius, dropout=dropout).penalty(view, view.run())
    assert noisy_N.sum() > 0


@pytest.mark.parametrize("task", TASKS)
def test_fresh_dropout_makes_a_difference_without_noise(looked_at: LookedAt, view_of: ViewOf, task: str) -> None:
    parts = looked_at(drop=0.1)
    view = view_of(parts, task)
    assert (Smart(dropout="fresh", sigma=0.0).penalty(view, view.run()) > 0).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("norm", "over"), BALLS)
def test_a_row_has_the_penalty_that_it_has_alone(
    looked_at: LookedAt, view_of: ViewOf, task: str, norm: Any, over: Any
) -> None:
    parts = looked_at()
    smart = Smart(radius=0.2, norm=norm, over=over)
    view = view_of(parts, task)
    together_N = smart.penalty(view, view.run())
    assert len(set(view.batch.streams[0].lengths)) > 2
    alone = [smart.penalty(one, one.run()) for one in (view_of(parts, task, [row]) for row in view.batch.rows)]
    torch.testing.assert_close(together_N, torch.cat(alone), rtol=1e-3, atol=1e-7)


def test_noise_is_drawn_for_each_row_step_and_text(looked_at: LookedAt, view_of: ViewOf) -> None:
    parts = looked_at(drop=0.1)
    view = view_of(parts, "similarity", [3, 1, 2])
    first = first_noise(view, view.embeddings())
    assert [n.shape for n in first] == [words_PD.shape for words_PD in view.embeddings()]
    torch.rand(5)
    assert all(torch.equal(one, two) for one, two in zip(first, first_noise(view, view.embeddings()), strict=True))
    alone = view_of(parts, "similarity", [2])
    for stream, whole_PD, own_LD in zip(view.batch.streams, first, first_noise(alone, alone.embeddings()), strict=True):
        place = list(view.batch.rows).index(2)
        place = place if stream.order_N is None else int(stream.order_N[place])
        assert torch.equal(torch.split(whole_PD, list(stream.lengths))[place], own_LD)
    other = TaskView(view.model, view.task, view.batch, (0, 0, 1, "similarity", 0))
    everything = [*first, *first_noise(other, other.embeddings())]
    values = torch.cat([noise_PD.flatten() for noise_PD in everything])
    assert len(set(values.tolist())) == len(values)
    assert float(values.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(values.std()) == pytest.approx(1.0, abs=0.05)


def test_each_text_of_a_bi_encoder_is_perturbed_beside_the_other_clean_one(
    looked_at: LookedAt, view_of: ViewOf
) -> None:
    parts = looked_at()
    view = view_of(parts, "similarity")
    smart = Smart(radius=0.3)
    clean, words = view.run(), view.embeddings()
    noise = smart.ascend(view, clean, words)
    one = view.run([words[0] + noise[0], words[1]])
    two = view.run([words[0], words[1] + noise[1]])
    wanted_N = view.divergence(one, clean) + view.divergence(two, clean)
    found_N = smart.penalty(view, clean)
    assert (found_N > 0).all()
    torch.testing.assert_close(found_N, wanted_N, rtol=1e-4, atol=1e-8)


def test_each_text_of_a_bi_encoder_meets_the_same_dropout(looked_at: LookedAt, view_of: ViewOf) -> None:
    parts = looked_at(drop=0.3)
    view = view_of(parts, "similarity")
    clean, words = view.run(), view.embeddings()
    for out in view.run_apart(words, clean):
        assert torch.equal(out.logits_NC, clean.logits_NC)
        assert torch.equal(out.loss_N, clean.loss_N)


# -- precision, cost, options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_papers_noise_does_not_drown_in_bfloat16(looked_at: LookedAt, view_of: ViewOf, task: str) -> None:
    parts = looked_at("bfloat16")
    view = view_of(parts, task)
    rounded_N = Smart(precision="own").penalty(view, view.run())
    found_N = Smart().penalty(view, view.run())
    true_view = view_of(looked_at(), task)
    true_N = Smart().penalty(true_view, true_view.run())
    assert found_N.sum().item() == pytest.approx(true_N.sum().item(), rel=0.1)
    assert rounded_N.sum().item() != pytest.approx(true_N.sum().item(), rel=0.5)


@pytest.mark.parametrize("task", TASKS)
def test_a_radius_that_stands_clear_is_searched_in_bfloat16(looked_at: LookedAt, view_of: ViewOf, task: str) -> None:
    sums = {}
    for precision in ("float32", "bfloat16"):
        parts = looked_at(precision)
        view = view_of(parts, task)
        for steps in (0, 1):
            sums[precision, steps] = Smart(radius=0.1, steps=steps).penalty(view, view.run()).sum().item()
    assert sums["bfloat16", 1] > 2 * sums["bfloat16", 0]
    assert sums["bfloat16", 1] == pytest.approx(sums["float32", 1], rel=0.3)


def matrix_products(act: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        act()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("task", TASKS)
def test_it_costs_eight_thirds_of_a_step(looked_at: LookedAt, view_of: ViewOf, task: str) -> None:
    """Three forward passes, an input gradient, two whole gradients: for bi-encoders too, and never one more."""
    parts = looked_at()
    view = view_of(parts, task)
    smart = Smart(radius="unit")
    clean = view.run()
    forward = matrix_products(view.run)
    ascent = matrix_products(lambda: smart.ascend(view, clean, view.embeddings()))
    assert 1.9 * forward < ascent < 2.1 * forward
    plain = matrix_products(lambda: view.run().loss_N.sum().backward())  # type: ignore[no-untyped-call]

    def penalised() -> None:
        clean = view.run()
        (clean.loss_N + smart.penalty(view, clean)).sum().backward()  # type: ignore[no-untyped-call]

    assert matrix_products(penalised) == pytest.approx(8 / 3 * plain, rel=0.02)


def test_the_ascent_leaves_no_gradient_anywhere(all_heads: Tiny, begun: Begun, view_of: ViewOf) -> None:
    step, parts = begun(all_heads(STAGE, precision="bfloat16"))
    step(0)  # every gradient now points into a buffer
    buffers = {name: buffer.clone() for name, buffer in step._buffers.items()}
    for task in parts.tasks:
        view = view_of(parts, task)
        for radius in ("paper", "unit"):
            Smart(radius=radius, steps=2).penalty(view, view.run())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in step._buffers.items())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"steps": -1}, "steps is -1"),
        ({"radius": -0.1}, r"radius is -0\.1"),
        ({"radius": "papers"}, "option 'radius' of 'smart' is 'papers'"),
        ({"sigma": float("inf")}, "sigma is inf"),
        ({"eta": -1.0}, "eta is -1"),
        ({"norm": "l3"}, "option 'norm'"),
        ({"dropout": True}, "option 'dropout'"),
        ({"epsilon": 1e-5}, "takes no option 'epsilon'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        regularizers.create("smart", **options)


def test_defaults_are_the_papers() -> None:
    smart = Smart()
    assert (smart.ball, smart.steps, smart.eta) == (Ball(1e-5, "inf", "token", "clip"), 1, 1e-3)
    assert Smart(radius="unit").ball == Ball(1.0, "inf", "token", "scale")
    assert [Smart(radius=radius).exact for radius in ("paper", 0.01, 0.1, "unit")] == [True, True, False, False]


def test_frozen_encoders_are_attacked_too(tiny: Tiny, begun: Begun, view_of: ViewOf) -> None:
    for train in ("heads", {"last": 1}):
        _, parts = begun(tiny(STAGE | {"train": train}))
        model: Model = parts.model
        view = view_of(parts, "paraphrase")
        penalty_N = Smart(radius=0.2).penalty(view, view.run())
        assert (penalty_N > 0).all()
        penalty_N.sum().backward()  # type: ignore[no-untyped-call]
        assert model.head("paraphrase").head.get_parameter("output.weight").grad is not None
