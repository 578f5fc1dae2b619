"""The swap gap: what exchanging the two texts of each pair does to what a person is shown, and that symmetry closes it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import expit, logit

from polytask.evaluation.swap import swap_gap
from polytask.inference.predictor import Predictor, load
from polytask.jobs.train import train
from polytask.tasks.kinds.base import kinds
from polytask.tasks.task import Task

Tiny = Callable[..., dict[str, Any]]

STAGE = {"epochs": 1, "batch_size": 10, "learning_rate": 3e-3}
NAMES = ["a", "b", "c"]


def pair_task(kind: str, labels: Mapping[str, str], **options: Any) -> Task:
    return Task("pairs", kinds.create(kind, labels, **options), ("x", "y"), "label", None, 64, "cross")


def test_the_gap_of_two_classes_is_that_of_the_positive_ones_probability() -> None:
    a_N, b_N = torch.tensor([0.3, -2.0, 4.0]), torch.tensor([0.3, 1.0, 3.0])
    found = swap_gap(pair_task("binary", {"no": "no", "yes": "yes"}), a_N[:, None], b_N[:, None])
    wanted_N = (a_N.sigmoid() - b_N.sigmoid()).abs()
    assert found == pytest.approx({"swap_gap": float(wanted_N.mean()), "swap_gap_max": float(wanted_N.max())})


def test_the_gap_of_several_classes_is_that_of_the_one_that_moves_most() -> None:
    a_NC, b_NC = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    found = swap_gap(pair_task("classification", dict(zip(NAMES, NAMES, strict=True))), a_NC, b_NC)
    wanted_N = (F.softmax(a_NC, 1) - F.softmax(b_NC, 1)).abs().amax(1)
    assert found == pytest.approx({"swap_gap": float(wanted_N.mean()), "swap_gap_max": float(wanted_N.max())})


def test_the_gap_of_scores_is_in_their_units_and_within_their_range() -> None:
    task = pair_task("regression", {}, range=(0.0, 5.0), output="raw")
    found = swap_gap(task, torch.tensor([[1.0], [7.0], [2.0]]), torch.tensor([[1.5], [9.0], [-3.0]]))
    assert found == pytest.approx({"swap_gap": 2.5 / 3, "swap_gap_max": 2.0})  # |1 − 1.5|, |5 − 5|, |2 − 0|


# -- of a run --------------------------------------------------------------------------------------------------------


def pair_recipe(tiny: Tiny, symmetric: Any, output: str = "raw", **changes: Any) -> dict[str, Any]:
    """A cross-encoded binary task, a bi-encoded and a cross-encoded regression, whose texts are long enough to be cut."""
    recipe = tiny(STAGE, only=("paraphrase", "similarity"), **changes)
    tasks = recipe["tasks"]
    tasks["similarity"]["pair"] = {"name": "bi", "features": ["u", "v", "product"]}
    tasks["similarity"]["kind"] = {"name": "regression", "range": [0.0, 5.0], "output": output}
    tasks["joined"] = {**tasks["similarity"], "pair": "cross", "max_length": 16}
    for task in tasks.values():
        task["symmetric"] = symmetric
    return recipe


def dev_pairs(tables: Path, task: str) -> list[tuple[str, str]]:
    with (tables / f"{task}-dev.csv").open(encoding="utf-8", newline="") as file:
        return [(row["sentence1"], row["sentence2"]) for row in csv.DictReader(file)]


def shown(predictor: Predictor, task: str, pairs: list[tuple[str, str]]) -> list[float]:
    records = predictor.predict(task, pairs, probabilities=True)
    return [record["probabilities"]["1"] if task == "paraphrase" else record["prediction"] for record in records]


def loud(predictor: Predictor) -> Predictor:
    """Draw the matrices anew and large, so that the order of two texts is no trifle to so small a model."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in predictor.model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return predictor


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_gap_is_what_predictions_of_both_orders_differ_by_and_none_with_symmetry(
    tiny: Tiny, tables: Path, tmp_path: Path, symmetric: bool, precision: str
) -> None:
    run = train(pair_recipe(tiny, symmetric, "sigmoid", precision=precision), tmp_path / "run")
    predictor = loud(load(run))
    evaluated = predictor.evaluate().tasks
    found = {task: scores.values for task, scores in evaluated.items()}
    for task, table in (("paraphrase", "paraphrase"), ("similarity", "similarity"), ("joined", "similarity")):
        pairs = dev_pairs(tables, table)
        given = np.array(shown(predictor, task, pairs))
        swapped = np.array(shown(predictor, task, [(b, a) for a, b in pairs]))
        gap_N = np.abs(given - swapped)
        assert found[task]["swap_gap"] == pytest.approx(gap_N.mean(), abs=1e-6)
        assert found[task]["swap_gap_max"] == pytest.approx(gap_N.max(), abs=1e-6)
        assert 0.0 <= found[task]["swap_gap"] <= found[task]["swap_gap_max"]
        if symmetric:
            assert found[task]["swap_gap_max"] == 0.0
            one_by_one = [shown(predictor, task, [pair])[0] for pair in [*pairs[:3], *((b, a) for a, b in pairs[:3])]]
            assert one_by_one[:3] == one_by_one[3:]
            beside = shown(predictor, task, [*pairs, *((b, a) for a, b in pairs)])  # all in one batch
            assert beside[: len(pairs)] == pytest.approx(beside[len(pairs) :], abs=1e-5)
            assert len(set(given)) > 3
        else:
            assert found[task]["swap_gap"] > 0.0
    assert symmetric or max(scores["swap_gap_max"] for scores in found.values()) > 0.01
    assert predictor.evaluate_table("paraphrase", tables / "paraphrase-dev.csv") == evaluated["paraphrase"]


PAIRS = [("A man left.", "A man went away."), ("The dog ran through the very long street.", "No."), ("x", "x")]
REVERSED = [(b, a) for a, b in PAIRS]


def with_and_without(tiny: Tiny, folder: Path, output: str) -> tuple[Predictor, Predictor]:
    """Return a run of symmetric tasks, and the same weights without symmetry, which give each order's logits."""
    recipe = pair_recipe(tiny, True, output, precision="float32")
    recipe["tasks"]["joined"].pop("max_length")
    run = train(recipe, folder / "run")
    predictor = load(run)
    text = (run / "recipe.toml").read_text(encoding="utf-8")
    assert text.count("symmetric = true") == 3
    index, changed = (
        (run / "index.json").read_text(encoding="utf-8"),
        text.replace("symmetric = true", "symmetric = false").encode(),
    )
    (run / "recipe.toml").write_bytes(changed)
    before, after = (hashlib.sha256(data).hexdigest() for data in (text.encode(), changed))
    (run / "index.json").write_text(index.replace(before, after), encoding="utf-8")
    return predictor, load(run)


def test_the_raw_score_of_a_symmetric_pair_is_the_mean_over_its_orders(tiny: Tiny, tmp_path: Path) -> None:
    predictor, plain = with_and_without(tiny, tmp_path, "raw")
    for task in ("similarity", "joined"):  # raw scores: predictions are logits, as long as none is clipped
        orders = np.array([plain.predict(task, PAIRS), plain.predict(task, REVERSED)])
        assert ((orders > 0) & (orders < 5)).all()
        assert predictor.predict(task, PAIRS) == pytest.approx(orders.mean(0), abs=1e-5)
        assert np.abs(orders[0] - orders[1])[:2].min() > 1e-5


def test_shares_and_probabilities_of_a_symmetric_pair_are_those_of_the_mean_logit(tiny: Tiny, tmp_path: Path) -> None:
    predictor, plain = (loud(model) for model in with_and_without(tiny, tmp_path, "sigmoid"))
    apart = 0.0
    for task, top in (("paraphrase", 1.0), ("similarity", 5.0), ("joined", 5.0)):
        orders = np.array([shown(plain, task, PAIRS), shown(plain, task, REVERSED)]) / top
        found = np.array(shown(predictor, task, PAIRS)) / top
        assert found == pytest.approx(expit(logit(orders).mean(0)), abs=1e-5)
        apart = max(apart, np.abs(found - orders.mean(0)).max())
    assert apart > 1e-3  # and not the mean of what the orders would show
