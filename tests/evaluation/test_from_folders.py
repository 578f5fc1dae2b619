"""Scores from run folders alone: every metric of every kind, from stored predictions, without torch; and who judges."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polytask.evaluation.predictions import read_predictions
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.metrics.base import metrics
from polytask.recipe.load import load_recipe
from polytask.run.folder import RunFolder
from polytask.run.journal import read_journal
from polytask.tasks.kinds.base import kinds

Tiny = Callable[..., dict[str, Any]]

STAGE = {"epochs": 2, "batch_size": 10, "learning_rate": 3e-3, "evaluate_every": 6}
SCORE = {"name": "regression", "range": [0.0, 5.0]}


def all_kinds(tiny: Tiny, *stages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a recipe with a task of each kind, scored by every metric that its kind can give."""
    recipe = tiny(*stages, **changes)
    tasks = recipe["tasks"]
    first, second = tasks["sentiment"], tasks["similarity"]
    unlabelled = {key: value for key, value in second.items() if key not in ("label", "kind", "head", "pair")}
    tasks |= {
        "ordinal": first | {"kind": "ordinal"},
        "multilabel": first | {"kind": "multilabel"},
        "words": {key: first[key] for key in ("train", "dev", "text")} | {"kind": "mlm"},
        "pairs": unlabelled | {"kind": "ranking", "pooling": "mean"},
    }
    for task in tasks.values():
        name = task["kind"] if isinstance(task["kind"], str) else task["kind"]["name"]
        task["metrics"] = [n for n in metrics.names() if metrics.member(n).fits(kinds.member(name).gives)]
    return recipe


@pytest.fixture(scope="module")
def run(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    stage = {**STAGE, "mixing": "joint"}
    return Path(train(all_kinds(tiny, stage), tmp_path_factory.mktemp("all") / "run"))


ALONE = """
import json, sys
from pathlib import Path
from polytask.evaluation.predictions import read_predictions
from polytask.evaluation.scoring import score
from polytask.metrics.base import metrics

run, names = Path(sys.argv[1]), json.loads(sys.argv[2])
found = {}
for task, wanted in names.items():
    kept = read_predictions(run / "predictions" / f"{task}-dev.csv")
    found[task] = score(kept, {name: metrics.create(name) for name in wanted}).to_json()
heavy = [name for name in ("torch", "scipy", "pandas", "pyarrow", "tokenizers") if name in sys.modules]
print(json.dumps([found, heavy]))
"""


def test_every_metric_of_a_run_can_be_told_from_its_predictions_without_torch(run: Path) -> None:
    best = [event for event in read_journal(run / "journal.jsonl") if event["event"] == "evaluation" and event["best"]]
    scores = best[-1]["scores"]
    names = {task: [name for name in values if name != "rows"] for task, values in scores.items()}
    assert {name for wanted in names.values() for name in wanted} == set(metrics.names())
    command = [sys.executable, "-c", ALONE, str(run), json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, heavy = json.loads(done.stdout)
    assert found == scores
    assert heavy == []


def test_each_rows_loss_is_kept_where_a_row_has_one(run: Path) -> None:
    predictor = load(run)
    for task, record in predictor.tasks.items():
        kept = read_predictions(run / "predictions" / f"{task}-dev.csv")
        if record.kind.in_batch:
            assert kept.loss_N is None
            continue
        assert kept.loss_N is not None
        assert kept.loss_N.shape == (len(kept),)
        if kept.predicted.probabilities_NC is not None and task in ("sentiment", "paraphrase"):
            assert kept.truth is not None
            own_N = kept.predicted.probabilities_NC[np.arange(len(kept)), kept.truth]
            np.testing.assert_allclose(kept.loss_N, -np.log(own_N), rtol=1e-4)
        elif task == "similarity":
            assert kept.truth is not None
            error_N = torch.tensor((kept.predicted.values - kept.truth) ** 2)
            assert np.corrcoef(kept.loss_N, error_N)[0, 1] > 0.9  # in units; predictions are clipped, losses are not


def test_the_run_says_what_it_was_scored_by(run: Path) -> None:
    tasks = load_recipe(run / "recipe.toml").recipe.tasks
    assert [member.name for member in tasks["paraphrase"].metrics or ()] == [
        "accuracy",
        "calibration_error",
        "macro_f1",
    ]
    assert (tasks["paraphrase"].judged_by, tasks["words"].judged_by) == ("accuracy", "accuracy")


# -- who judges ------------------------------------------------------------------------------------------------------


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [event for event in read_journal(run / "journal.jsonl") if event["event"] == "evaluation"]


def judged_by(tiny: Tiny, task: str, metric: str, *stages: dict[str, Any]) -> dict[str, Any]:
    recipe = all_kinds(tiny, *stages, drop=0.0)
    recipe["tasks"] = {task: recipe["tasks"][task] | {"judged_by": metric}}
    return recipe


@pytest.mark.parametrize("aggregate", ["mean", "cs224n"])
@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("similarity", "mse"),
        ("similarity", "mae"),
        ("sentiment", "calibration_error"),
        ("words", "perplexity"),
        ("similarity", "spearman"),
    ],
)
def test_the_best_is_what_the_metric_that_judges_calls_best(
    tiny: Tiny, tmp_path: Path, task: str, metric: str, aggregate: str
) -> None:
    recipe = judged_by(tiny, task, metric, {**STAGE, "evaluate_every": 1, "learning_rate": 2e-2})
    run = Path(train(recipe | {"aggregate": aggregate}, tmp_path / "run"))
    events, index = evaluations(run), RunFolder(run).read_index()
    values = [event["scores"][task][metric] for event in events]
    assert next(name for name in events[0]["scores"][task] if name != "rows") == metric  # it comes first
    best = max(values) if metrics.member(metric).larger_is_better else min(values)
    assert len(set(values)) > 3
    assert index.best_values[task] == best
    name = f"1-{events[values.index(best)]['step']:06d}"
    assert (index.best, index.best_of[task]) == (name, name)
    assert load(run).evaluate().tasks[task].values[metric] == best
    member, so_far = metrics.member(metric), values[0]
    for event, value in zip(events[1:], values[1:], strict=True):
        assert event["best"] is (member.gain(value, so_far) > 0)
        so_far = value if event["best"] else so_far


def test_early_stopping_waits_for_an_error_to_fall(tiny: Tiny, tmp_path: Path) -> None:
    stage = {**STAGE, "epochs": 30, "evaluate_every": 3, "early_stopping": {"patience": 3}, "learning_rate": 1e-2}
    run = Path(train(judged_by(tiny, "similarity", "mse", stage), tmp_path / "run"))
    values = [event["scores"]["similarity"]["mse"] for event in evaluations(run)]
    assert 3 < len(values) < 60
    assert min(values) == values[-4]
    assert min(values[:-3]) <= min(values[-3:])


def test_a_judge_that_was_not_among_the_metrics_is_scored_too(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({"steps": 2, "batch_size": 8}, only=("similarity",))
    recipe["tasks"]["similarity"] |= {"metrics": ["spearman"], "judged_by": "mae"}
    run = Path(train(recipe, tmp_path / "run"))
    assert list(evaluations(run)[-1]["scores"]["similarity"]) == ["rows", "mae", "spearman"]
    written = load_recipe(run / "recipe.toml").recipe.tasks["similarity"]
    assert [member.name for member in written.metrics or ()] == ["mae", "spearman"]


def test_a_metric_takes_options(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({"steps": 2, "batch_size": 8}, only=("sentiment",))
    recipe["tasks"]["sentiment"]["metrics"] = ["accuracy", {"name": "calibration_error", "bins": 1}]
    run = Path(train(recipe, tmp_path / "run"))
    kept = read_predictions(run / "predictions" / "sentiment-dev.csv")
    confidence = kept.predicted.probabilities.max(1).mean()
    found = evaluations(run)[-1]["scores"]["sentiment"]
    assert found["calibration_error"] == pytest.approx(abs(confidence - found["accuracy"]))


def test_a_run_judged_by_an_error_goes_on_after_a_crash_as_if_there_had_been_none(
    tiny: Tiny, tmp_path: Path, crashed: Callable[..., Path]
) -> None:
    recipe = judged_by(tiny, "similarity", "mse", {**STAGE, "evaluate_every": 2}) | {"checkpoint_every": 2}
    whole = Path(train(recipe, tmp_path / "whole"))
    again = crashed(recipe, tmp_path / "again", 5)
    resume(again)
    one, other = (RunFolder(run).read_index() for run in (whole, again))
    assert (one.best, one.best_values) == (other.best, other.best_values)
    assert (whole / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
