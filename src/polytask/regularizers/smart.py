"""SMART's adversarial regularizer.

Shapes: N rows or texts, P tokens of a packed stream, D width of the word embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polytask.model import Dropout, TaskOutput, TaskView
from polytask.packing import PackedBatch
from polytask.runtime.device import DTYPES
from polytask.runtime.keys import seed_of

from .base import Regularizer, regularizers

_COARSE = 0.1  # the radius from which on noise stands clear of bf16's rounding: word embeddings are about 0.05
_SIGMA = {True: 1e-2, False: 1e-5}  # of the first noise, by whether the branch rounds to bf16


@dataclass(frozen=True)
class Ball:
    """The balls that noise is held in, one around each token's embedding or one around each text's.

    ``onto`` says how: "clip" goes to the nearest point of the ball (of an ℓ₁ ball, to the nearest on the way to its
    centre), "scale" always to its surface, keeping the direction.
    """

    radius: float
    norm: Literal["inf", "l2", "l1"]
    over: Literal["token", "text"]
    onto: Literal["clip", "scale"]

    def held(self, noise_PD: Tensor, stream: PackedBatch) -> Tensor:
        """Return the noise as the ball admits it."""
        if self.onto == "scale":
            return self.direction(noise_PD, stream) * self.radius
        if self.norm == "inf":
            return noise_PD.clamp(-self.radius, self.radius)
        return noise_PD * (self.radius / _above_zero(self.size(noise_PD, stream))).clamp(max=1.0)

    def direction(self, noise_PD: Tensor, stream: PackedBatch) -> Tensor:
        """Return the noise with norm 1 (or 0, where it is nothing)."""
        return noise_PD / _above_zero(self.size(noise_PD, stream))

    def size(self, noise_PD: Tensor, stream: PackedBatch) -> Tensor:
        """Return the norm at each token, ``(P, 1)``: the token's own, or its whole text's."""
        # Entries are divided by the largest first, and the norm multiplied: squares of tiny gradients would vanish.
        largest_P1 = self._over(noise_PD.abs().amax(1, keepdim=True), stream, largest=True)
        if self.norm == "inf":
            return largest_P1
        unit_PD = noise_PD / _above_zero(largest_P1)
        power = 2 if self.norm == "l2" else 1
        sum_P1 = self._over(unit_PD.abs().pow(power).sum(1, keepdim=True), stream, largest=False)
        return largest_P1 * sum_P1.pow(1 / power)

    def _over(self, each_P1: Tensor, stream: PackedBatch, *, largest: bool) -> Tensor:
        if self.over == "token":
            return each_P1
        tokens = stream.wrap(each_P1)
        text_N1 = tokens.max() if largest else tokens.sum()
        lengths_N = torch.tensor(stream.lengths, device=each_P1.device)
        return text_N1.repeat_interleave(lengths_N, dim=0, output_size=stream.tokens)


@regularizers.register("smart")
class Smart(Regularizer):
    """SMART (Jiang et al. 2020, §3.1, algorithm 1): the worst nearby word embeddings should predict the same.

    The penalty is ℓₛ(f(x + δ), f(x)), and gradients flow through both. δ starts as N(0, σ²) and takes K = ``steps``
    steps δ ← Π(δ + η g / ‖g‖) with g = ∂ℓₛ / ∂δ; Π holds it in a ball of radius ε. No text has padding, so none is
    perturbed. With two streams (a bi-encoder) each text has its own δ, is run beside the other's clean vector, and both
    penalties add up. With ``steps = 0`` δ is held noise, as in R3F (Aghajanyan et al. 2021).

    ``radius``: "paper" is ε = 1e-5 with the paper's projection; "unit" is the public code's ball, noise scaled to
    radius 1 (that code adds η g undivided, so that its first noise decides); a number is ε, scaled to. ``onto`` is
    "clip" (the projection) or "scale" (to the surface).
    ``norm`` (also that of g) is "inf", "l2" or "l1", ``over`` each "token" or a whole "text". ``sigma`` is 1e-5, or
    1e-2 where it would drown in bf16; ``eta`` is the paper's 1e-3, or the radius when that is another.

    ``dropout`` of the perturbed passes. "same": the masks of the clean pass, so that noise alone makes the difference
    and the penalty is 0 at zero noise; "off": both sides without dropout, one clean pass more; "fresh": new masks, as
    in the public code, which adds what R-Drop measures. ``precision`` "own" is the run's, "float32" what noise of less
    than 0.1 needs (in a bf16 run one clean pass more), "auto" chooses by the radius.
    """

    def __init__(
        self,
        *,
        radius: Literal["paper", "unit"] | float = "paper",
        steps: int = 1,
        sigma: float | None = None,
        eta: float | None = None,
        norm: Literal["inf", "l2", "l1"] = "inf",
        over: Literal["token", "text"] = "token",
        onto: Literal["clip", "scale"] | None = None,
        dropout: Dropout = "same",
        precision: Literal["auto", "own", "float32"] = "auto",
    ) -> None:
        epsilon = {"paper": 1e-5, "unit": 1.0}.get(radius, math.nan) if isinstance(radius, str) else radius
        _check(steps, radius=epsilon, sigma=sigma, eta=eta)
        self.ball = Ball(epsilon, norm, over, onto or ("clip" if radius == "paper" else "scale"))
        self.steps = steps
        self.sigma = sigma
        self.eta = eta if eta is not None else 1e-3 if radius == "paper" else epsilon
        self.dropout: Dropout = dropout
        self.exact = precision == "float32" or (precision == "auto" and epsilon < _COARSE)

    def penalty(self, view: TaskView, clean: TaskOutput) -> Tensor:
        reference = self.reference(view, clean)
        words = view.embeddings()
        noise = self.ascend(view, reference, words)
        return self.distance(view, reference, words, noise)

    def reference(self, view: TaskView, clean: TaskOutput) -> TaskOutput:
        """Return the pass that perturbed ones are held against: the clean one, if it is of their kind."""
        if self.dropout != "off" and not self._differs(view):
            return clean
        return view.run(dropout="off" if self.dropout == "off" else "same", precision=self._precision)

    def ascend(self, view: TaskView, reference: TaskOutput, words: Sequence[Tensor]) -> list[Tensor]:
        """Return the noise of each stream. Nothing but the noise is differentiated: no weight gets a gradient."""
        reference, fixed = reference.detached(), [words_PD.detach() for words_PD in words]
        sigma = self.sigma if self.sigma is not None else _SIGMA[self._rounds(view)]
        noise = [unit_PD * sigma for unit_PD in first_noise(view, fixed)]
        for _ in range(self.steps):
            leaves = [noise_PD.requires_grad_() for noise_PD in noise]
            with view.aside():
                gradients = torch.autograd.grad(self.distance(view, reference, fixed, leaves).sum(), leaves)
            noise = [self._moved(*parts) for parts in zip(leaves, gradients, view.batch.streams, strict=True)]
        if not self.steps:
            noise = [self.ball.held(*parts) for parts in zip(noise, view.batch.streams, strict=True)]
        return noise

    def distance(
        self, view: TaskView, reference: TaskOutput, words: Sequence[Tensor], noise: Sequence[Tensor]
    ) -> Tensor:
        """Return how far each row's prediction is from the reference's under noise, ``(N,)``."""
        moved = [words_PD + noise_PD for words_PD, noise_PD in zip(words, noise, strict=True)]
        outs = view.run_apart(moved, reference, dropout=self.dropout, precision=self._precision)
        return torch.stack([view.divergence(out, reference) for out in outs]).sum(0)

    def _moved(self, noise_PD: Tensor, gradient_PD: Tensor, stream: PackedBatch) -> Tensor:
        step_PD = self.eta * self.ball.direction(gradient_PD, stream)
        return self.ball.held(noise_PD.detach() + step_PD, stream)

    @property
    def _precision(self) -> Literal["float32"] | None:
        return "float32" if self.exact else None

    def _differs(self, view: TaskView) -> bool:
        return self.exact and view.compute is not DTYPES["float32"]

    def _rounds(self, view: TaskView) -> bool:
        return not self.exact and view.compute is DTYPES["bfloat16"]


def first_noise(view: TaskView, words: Sequence[Tensor]) -> list[Tensor]:
    """Return N(0, 1) noise for each stream, ``(P, D)``.

    Each text's is drawn from a key of its own (step, task, row), so it does not depend on how a batch is cut into
    micro-batches, and nothing is taken from the generators of dropout.
    """
    generator = torch.Generator()
    noise = []
    for number, (stream, words_PD) in enumerate(zip(view.batch.streams, words, strict=True)):
        parts = []
        for row, length in zip(_row_of_text(view, stream), stream.lengths, strict=True):
            generator.manual_seed(seed_of(*view.key[:-1], "noise", number, *row))
            parts.append(torch.randn(length, words_PD.shape[1], generator=generator))
        noise.append(torch.cat(parts).to(words_PD))
    return noise


def _row_of_text(view: TaskView, stream: PackedBatch) -> list[tuple[int, ...]]:
    """Return the row of each text, and where a row has both orders of a pair, which of them it is."""
    rows = (
        view.batch.rows if stream.order_N is None else [view.batch.rows[n] for n in stream.order_N.argsort().tolist()]
    )
    orders = stream.texts // len(rows)
    return [(row,) if order == 0 else (row, order) for row in rows for order in range(orders)]


def _above_zero(size_P1: Tensor) -> Tensor:
    return size_P1.clamp_min(torch.finfo(size_P1.dtype).tiny)


def _check(steps: int, **amounts: float | None) -> None:
    if steps < 0:
        raise ValueError(f"steps is {steps}; it counts the ascent steps, 0 or more")
    for name, amount in amounts.items():
        if amount is not None and not 0 <= amount < math.inf:
            raise ValueError(f"{name} is {amount:g}; it is a length, 0 or more")
