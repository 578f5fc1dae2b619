"""Logits in the order of the rows, scores of every metric, and aggregates that can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polytask.assembly.parts import Parts, build
from polytask.evaluation.scoring import Scores, aggregate, first_metrics, predict_logits, score
from polytask.inference.predictor import load
from polytask.recipe.load import load_recipe
from polytask.run.folder import RunFolder
from polytask.run.journal import read_journal
from polytask.tasks.kinds.base import Kind, kinds

Tiny = Callable[..., dict[str, Any]]

CPU = torch.device("cpu")
KINDS: Mapping[str, Kind] = {
    "sst": kinds.create("classification", {"0": "no", "1": "yes"}),
    "quora": kinds.create("binary", {"0": "no", "1": "yes"}),
    "sts": kinds.create("regression", {}, range=(0.0, 5.0)),
}
SCORES: Mapping[str, Scores] = {
    "sst": {"n": 10, "accuracy": 0.5, "macro_f1": 0.4},
    "quora": {"n": 10, "accuracy": 0.8, "macro_f1": 0.1},
    "sts": {"n": 10, "pearson": 0.6, "spearman": 0.9, "mse": 2.0},
}


@pytest.fixture(scope="module")
def parts(tiny: Tiny) -> Parts:
    return build(load_recipe(tiny()))


def test_the_mean_is_that_of_each_tasks_first_metric() -> None:
    assert first_metrics(SCORES, KINDS) == {"sst": 0.5, "quora": 0.8, "sts": 0.6}
    assert aggregate(SCORES, KINDS, "mean") == pytest.approx((0.5 + 0.8 + 0.6) / 3)


def test_the_courses_aggregate_takes_a_correlation_as_one_plus_r_over_two() -> None:
    assert aggregate(SCORES, KINDS, "cs224n") == pytest.approx((0.5 + 0.8 + 0.8) / 3)


def test_one_task_is_its_own_aggregate() -> None:
    assert aggregate({"sts": SCORES["sts"]}, KINDS, "mean") == 0.6
    assert aggregate({"sts": SCORES["sts"]}, KINDS, "cs224n") == pytest.approx(0.8)


@pytest.mark.parametrize("task", ["sentiment", "paraphrase", "similarity"])
def test_logits_come_in_the_order_of_the_rows(parts: Parts, task: str) -> None:
    rows = parts.dev_rows[task]
    ticks: list[int] = []
    logits_NC = predict_logits(parts.model, parts.tasks[task], rows, CPU, ticks.append)
    assert sum(ticks) == len(rows) == len(logits_NC)
    parts.model.eval()
    with torch.no_grad():
        alone_NC = torch.cat([parts.model(task, rows.pack([row])) for row in range(len(rows))])
    torch.testing.assert_close(logits_NC, alone_NC, rtol=1e-5, atol=1e-6)
    assert len(np.unique(logits_NC.numpy().round(6), axis=0)) > 5  # an order could be seen at all


def test_predicting_leaves_the_model_as_it_was(parts: Parts) -> None:
    for training in (True, False):
        parts.model.train(training)
        one = predict_logits(parts.model, parts.tasks["sentiment"], parts.dev_rows["sentiment"], CPU)
        assert parts.model.training is training
        assert torch.equal(one, predict_logits(parts.model, parts.tasks["sentiment"], parts.dev_rows["sentiment"], CPU))


def test_scores_count_rows_and_know_the_metrics_of_the_kind(parts: Parts) -> None:
    rows = parts.dev_rows["sentiment"]
    assert rows.labels_N is not None
    right_NC = torch.nn.functional.one_hot(rows.labels_N, 5).float()
    scores = score(parts.tasks["sentiment"], right_NC, rows)
    assert scores["n"] == 20
    assert scores["accuracy"] == scores["macro_f1"] == 1.0
    half_NC = right_NC.clone()
    half_NC[:10] = right_NC[:10].roll(1, dims=1)
    assert score(parts.tasks["sentiment"], half_NC, rows)["accuracy"] == 0.5


def without_gap(tasks: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return scores without what only ``evaluate`` looks at."""
    return {
        task: {metric: value for metric, value in scores.items() if not metric.startswith("swap_gap")}
        for task, scores in tasks.items()
    }


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_checkpoint_scores_exactly_what_the_journal_recorded(tiny: Tiny, tmp_path: Path, precision: str) -> None:
    from polytask.jobs.train import train

    stage = {"epochs": 2, "batch_size": 10, "learning_rate": 1e-3, "evaluate_every": 6}
    run = train(tiny(stage, precision=precision, aggregate="cs224n"), tmp_path / "run")
    events = [event for event in read_journal(run / "journal.jsonl") if event["event"] == "evaluation"]
    assert len(events) == 6
    best = max(events, key=lambda event: float(event["aggregate"]))
    index = RunFolder(run).read_index()
    assert index.best == f"1-{best['step']:06d}"
    found = load(run).evaluate()
    assert without_gap(found["tasks"]) == best["scores"]
    assert found["aggregate"] == best["aggregate"] == index.best_aggregate
    assert without_gap(load(run, checkpoint="last").evaluate()["tasks"]) == events[-1]["scores"]
    for task, first in {"sentiment": "accuracy", "paraphrase": "accuracy", "similarity": "pearson"}.items():
        scored = load(run, checkpoint=f"best-{task}").evaluate(only=task)["tasks"][task]
        assert scored[first] == max(event["scores"][task][first] for event in events)
    assert [event["best"] for event in events] == [
        event["aggregate"] > max((e["aggregate"] for e in events[:n]), default=-1.0) for n, event in enumerate(events)
    ]
