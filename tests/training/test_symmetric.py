"""Training on both orders of a pair: the loss by hand from two plain passes, and regularizers on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from polytask.assembly.parts import Parts
from polytask.data.rows import TaskRows
from polytask.heads.orders import as_given
from polytask.model import TaskView
from polytask.training.step import Step

Tiny = Callable[..., dict[str, Any]]
PartsOf = Callable[[Mapping[str, Any]], Parts]
StepOf = Callable[..., Step]

STAGE = {"steps": 6, "batch_size": 10, "learning_rate": 1e-3}
PAIRS = ("paraphrase", "similarity")
ROWS = np.arange(12)


def symmetric(tiny: Tiny, consistency: float, *stages: Mapping[str, Any], drop: float = 0.0) -> dict[str, Any]:
    recipe = tiny(*(stages or (STAGE,)), drop=drop, only=PAIRS)
    for task in recipe["tasks"].values():
        task["symmetric"] = {"consistency": consistency}
    return recipe


def loud(parts: Parts) -> Parts:
    """Blow the encoder's matrices up, so that the order of two texts is more than a rounding error to so small a model."""
    with torch.no_grad():
        for name, parameter in parts.model.named_parameters():
            if parameter.dim() == 2 and name.startswith("encoders."):
                parameter.mul_(8.0)
    return parts


def view_of(parts: Parts, task: str) -> TaskView:
    return TaskView(parts.model, parts.tasks[task], parts.train_rows[task].pack(ROWS), (0, 0, 0, task, 0))


def plain_orders(parts: Parts, task: str, rows: Sequence[int]) -> list[Tensor]:
    """Return the logits of each order, from the same weights in a model that knows of no symmetry."""
    data = parts.train_rows[task]
    plain = TaskRows(replace(data.layout, both=False), data.columns, data.ids)
    head = parts.model.head(task)
    kept, head.orders = head.orders, as_given
    try:
        found = []
        for table in (plain, plain.swapped()):
            logits = {row: parts.model(task, table.pack([row]))[0] for row in rows}
            found.append(torch.stack([logits[row] for row in rows]))
        return found
    finally:
        head.orders = kept


@pytest.mark.parametrize("consistency", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("task", PAIRS)
def test_the_loss_is_the_mean_over_both_orders_and_what_they_disagree(
    tiny: Tiny, parts_of: PartsOf, task: str, consistency: float
) -> None:
    parts = loud(parts_of(symmetric(tiny, consistency)))
    parts.model.eval()
    view = view_of(parts, task)
    out = view.run()
    ab_NC, ba_NC = plain_orders(parts, task, view.batch.rows)
    labels_N = view.batch.labels_N
    assert labels_N is not None
    a_N, b_N = ab_NC[:, 0], ba_NC[:, 0]
    assert (a_N - b_N).abs().max() > 1e-4
    if task == "paraphrase":
        losses = [F.binary_cross_entropy_with_logits(x_N, labels_N.float(), reduction="none") for x_N in (a_N, b_N)]
        p_N, q_N = (torch.distributions.Bernoulli(logits=x_N) for x_N in (a_N, b_N))
        apart_N = torch.distributions.kl_divergence(p_N, q_N) + torch.distributions.kl_divergence(q_N, p_N)
    else:
        train_N = parts.train_rows[task].labels_N
        assert train_N is not None
        standard_N = (labels_N - train_N.mean()) / train_N.std(correction=0)
        losses = [(a_N - standard_N) ** 2, (b_N - standard_N) ** 2]
        apart_N = (a_N - b_N) ** 2
    torch.testing.assert_close(out.logits_NC, (ab_NC + ba_NC) / 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.loss_N, sum(losses) / 2 + consistency * apart_N, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("task", PAIRS)
def test_a_regularizer_sees_both_orders_of_a_micro_batch_and_a_row_each(
    tiny: Tiny, parts_of: PartsOf, task: str
) -> None:
    parts = parts_of(symmetric(tiny, 1.0, drop=0.2))
    parts.model.train()
    view = view_of(parts, task)
    clean, words = view.run(), view.embeddings()
    assert sum(len(stream_PD) for stream_PD in words) == view.batch.tokens
    assert view.batch.tokens == parts.train_rows[task].lengths[ROWS].sum()
    again, fresh = view.run(words), view.run(dropout="fresh")
    assert torch.equal(clean.logits_NC, again.logits_NC)
    assert torch.equal(clean.loss_N, again.loss_N)
    assert not torch.equal(clean.logits_NC, fresh.logits_NC)
    assert view.divergence(clean, fresh).shape == clean.loss_N.shape == (len(ROWS),)
    noisy = view.run([word_PD + 0.05 * torch.randn_like(word_PD) for word_PD in words])
    assert (view.divergence(clean, noisy) > 0).all()


def test_symmetric_pairs_train_and_their_orders_come_together(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    """Trained for little but consistency, a model learns it; without the term it does not nearly as well."""
    gaps = {}
    for consistency in (0.0, 100.0):
        parts = loud(parts_of(symmetric(tiny, consistency, {**STAGE, "steps": 30, "mixing": "joint"})))
        step = step_of(parts)
        for number in range(30):
            assert step(number).tokens == parts.stages[0].plan.tokens([number])
        step.release()
        parts.model.eval()
        with torch.no_grad():
            ab_NC, ba_NC = plain_orders(parts, "similarity", range(20))
        gaps[consistency] = float((ab_NC - ba_NC).abs().mean())
    assert gaps[100.0] < 0.5 * gaps[0.0], gaps


def test_token_budgets_count_both_orders(tiny: Tiny, parts_of: PartsOf) -> None:
    recipe = symmetric(tiny, 1.0, {"steps": 3, "batch_tokens": 150})
    parts = parts_of(recipe)
    data = parts.train_rows["paraphrase"]
    for rows in parts.stages[0].plan.streams["paraphrase"].batches(0):
        assert data.pack(rows).tokens <= 150 or len(rows) == 1


@pytest.mark.parametrize("regularizer", ["rdrop"])
def test_a_regularized_symmetric_step_moves_the_weights(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, regularizer: str
) -> None:
    stage = {**STAGE, "mixing": "joint", "micro_batch": 4, "regularizers": [{"name": regularizer}]}
    step = step_of(parts_of(symmetric(tiny, 1.0, stage, drop=0.1)))
    before = {name: tensor.clone() for name, tensor in step.weights.tensors().items()}
    result = step(0)
    assert all(np.isfinite(value) and value > 0 for value in result.penalties.values())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in step.weights.tensors().items())
