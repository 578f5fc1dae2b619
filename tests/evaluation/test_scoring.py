"""Logits in the order of the rows, scores of every metric, and aggregates that can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polytask.assembly.parts import Parts, build
from polytask.evaluation.aggregates.base import aggregates
from polytask.evaluation.predicting import predict, predict_logits
from polytask.evaluation.scoring import Metrics, aggregated, judged, score
from polytask.inference.predictor import load
from polytask.metrics.base import metrics
from polytask.recipe.load import load_recipe
from polytask.run.folder import RunFolder
from polytask.run.journal import read_journal
from polytask.run.scores import Scores
from polytask.tasks.kinds.base import kinds

Tiny = Callable[..., dict[str, Any]]

CPU = torch.device("cpu")
KINDS = {"sst": "classification", "quora": "binary", "sts": "regression"}
METRICS: Mapping[str, Metrics] = {
    task: {name: metrics.create(name) for name in kinds.member(kind).metrics} for task, kind in KINDS.items()
}
SCORES: Mapping[str, Scores] = {
    "sst": Scores(10, {"accuracy": 0.5, "macro_f1": 0.4}),
    "quora": Scores(10, {"accuracy": 0.8, "macro_f1": 0.1}),
    "sts": Scores(10, {"pearson": 0.6, "spearman": 0.9, "mse": 2.0}),
}


@pytest.fixture(scope="module")
def parts(tiny: Tiny) -> Parts:
    return build(load_recipe(tiny()))


def test_the_mean_is_that_of_each_tasks_first_metric() -> None:
    assert [judged(scores, METRICS[task]).value for task, scores in SCORES.items()] == [0.5, 0.8, 0.6]
    assert aggregated(SCORES, METRICS, aggregates.create("mean")) == pytest.approx((0.5 + 0.8 + 0.6) / 3)


def test_the_courses_aggregate_takes_a_correlation_as_one_plus_r_over_two() -> None:
    assert aggregated(SCORES, METRICS, aggregates.create("cs224n")) == pytest.approx((0.5 + 0.8 + 0.8) / 3)


def test_one_task_is_its_own_aggregate() -> None:
    assert aggregated({"sts": SCORES["sts"]}, METRICS, aggregates.create("mean")) == 0.6
    assert aggregated({"sts": SCORES["sts"]}, METRICS, aggregates.create("cs224n")) == pytest.approx(0.8)


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
    task = parts.tasks["sentiment"]
    scores = score(predict(task.kind, right_NC, rows.ids, rows.labels_N), task.metrics)
    assert scores.rows == 20
    assert scores.values["accuracy"] == scores.values["macro_f1"] == 1.0
    half_NC = right_NC.clone()
    half_NC[:10] = right_NC[:10].roll(1, dims=1)
    assert score(predict(task.kind, half_NC, rows.ids, rows.labels_N), task.metrics).values["accuracy"] == 0.5
    with pytest.raises(ValueError, match="rows without labels"):
        score(predict(task.kind, half_NC, rows.ids), task.metrics)


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
    run = train(tiny(stage, precision=precision, aggregate="cs224n"), tmp_path / "run").folder
    events = [event for event in read_journal(run / "journal.jsonl") if event["event"] == "evaluation"]
    assert len(events) == 6
    best = max(events, key=lambda event: float(event["aggregate"]))
    index = RunFolder(run).read_index()
    assert index.best == f"1-{best['step']:06d}"
    found = load(run).evaluate().to_json()
    assert without_gap(found["tasks"]) == best["scores"]
    assert found["aggregate"] == best["aggregate"] == index.best_aggregate
    assert without_gap(load(run, checkpoint="last").evaluate().to_json()["tasks"]) == events[-1]["scores"]
    for task, first in {"sentiment": "accuracy", "paraphrase": "accuracy", "similarity": "pearson"}.items():
        scored = load(run, checkpoint=f"best-{task}").evaluate(only=task).tasks[task].values
        assert scored[first] == max(event["scores"][task][first] for event in events)
    assert [event["best"] for event in events] == [
        event["aggregate"] > max((e["aggregate"] for e in events[:n]), default=-1.0) for n, event in enumerate(events)
    ]
