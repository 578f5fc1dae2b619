"""Every member of every open room, in a recipe: it trains in bf16, survives a crash bit for bit, predicts and is listed.

A newcomer is examined here because it is registered; most need no line of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polytask.aggregators.base import aggregators
from polytask.balance.base import balances
from polytask.data.augment.base import augmentations
from polytask.data.mixing.base import mixings
from polytask.encoder.base import encoders
from polytask.evaluation.aggregates.base import aggregates
from polytask.heads.logits.base import heads
from polytask.heads.pairs.base import pair_features
from polytask.heads.pooling.base import poolings
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.jobs.verify import same_runs
from polytask.metrics.base import metrics
from polytask.recipe.catalogue import catalogue
from polytask.registry import Registry
from polytask.regularizers.base import regularizers
from polytask.run.journal import read_journal
from polytask.tasks.kinds.base import kinds

Tiny = Callable[..., dict[str, Any]]
Survivor = Callable[[dict[str, Any]], Path]
Change = Callable[[dict[str, Any], str], None]

COSINE = {"pair": {"name": "bi", "features": ["cosine"]}, "head": "cosine"}
OUTPUT = {"kind": {"name": "regression", "range": [0.0, 5.0], "output": "cosine"}}
REGRESSION = {"name": "regression", "range": [0.0, 5.0]}
CHANGED_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "binary": ("paraphrase", {"kind": "binary"}),
    "regression": ("similarity", {"kind": REGRESSION}),
    "multilabel": ("sentiment", {"kind": "multilabel"}),
    "mlm": ("sentiment", {"kind": "mlm", "label": None, "dev": None}),
    "ranking": ("paraphrase", {"kind": "ranking", "label": None, "dev": None}),
}


def _in_stage(key: str) -> Change:
    return lambda recipe, name: recipe["stages"][0].update({key: name})


def _balance(recipe: dict[str, Any], name: str) -> None:
    # A period of an epoch would end after the run: dwa compares two of them before it acts.
    recipe["stages"][0]["balance"] = {"name": name, "period": 1} if name == "dwa" else name


def _pooling(recipe: dict[str, Any], name: str) -> None:
    for task in recipe["tasks"].values():
        task["pooling"] = name


def _pair_feature(recipe: dict[str, Any], name: str) -> None:
    recipe["tasks"]["similarity"]["pair"] = {"name": "bi", "features": [name]}


def _head(recipe: dict[str, Any], name: str) -> None:
    if name == "cosine":
        recipe["tasks"]["similarity"] |= COSINE | OUTPUT
        return
    for task in recipe["tasks"].values():
        task["head"] = name


def _kind(recipe: dict[str, Any], name: str) -> None:
    task, changes = CHANGED_KINDS.get(name, ("sentiment", {"kind": name}))
    settings = recipe["tasks"][task] | changes
    if "label" in changes:
        settings.pop("head")
    recipe["tasks"][task] = {key: value for key, value in settings.items() if value is not None}


def _augmentation(recipe: dict[str, Any], name: str) -> None:
    recipe["tasks"]["sentiment"]["augment"] = name


def _metric(recipe: dict[str, Any], name: str) -> None:
    """Let a task of the first kind that can give a metric be judged by it."""
    kind = next(kind for kind in kinds.names() if metrics.member(name).fits(kinds.member(kind).gives))
    task = CHANGED_KINDS.get(kind, ("sentiment", {}))[0]
    _kind(recipe, kind)
    recipe["tasks"][task] |= {"judged_by": name, "evaluate": True, "dev": recipe["tasks"][task].get("dev", 0.3)}


def _aggregate(recipe: dict[str, Any], name: str) -> None:
    recipe["aggregate"] = name


def _regularizer(recipe: dict[str, Any], name: str) -> None:
    recipe["stages"][0]["regularizers"] = [{"name": name, "weight": 0.5}]


def _encoder(recipe: dict[str, Any], name: str) -> None:
    if not encoders.member(name).from_scratch:
        pytest.skip("reads checkpoints alone; tests/encoder/test_auto.py trains from one")
    small = {key: value for key, value in recipe["encoder"].items() if key in encoders.options(name)}
    recipe["encoder"] = {"architecture": name, **small}


ROOMS: dict[str, tuple[Registry[Any], Change]] = {
    "encoders": (encoders, _encoder),
    "poolings": (poolings, _pooling),
    "pair features": (pair_features, _pair_feature),
    "heads": (heads, _head),
    "kinds": (kinds, _kind),
    "mixing": (mixings, _in_stage("mixing")),
    "balance": (balances, _balance),
    "aggregators": (aggregators, _in_stage("aggregator")),
    "regularizers": (regularizers, _regularizer),
    "augmentations": (augmentations, _augmentation),
    "metrics": (metrics, _metric),
    "aggregates": (aggregates, _aggregate),
}


def members() -> Iterator[Any]:
    for room, (registry, _) in ROOMS.items():
        for name in registry.names():
            yield pytest.param(room, name, id=f"{room}-{name}")


def recipe_with(tiny: Tiny, room: str, name: str) -> dict[str, Any]:
    stage = {"steps": 5, "batch_size": 6, "learning_rate": 1e-3, "mixing": "joint", "evaluate_every": 4}
    recipe = tiny(stage, precision="bfloat16", checkpoint_every=2)
    recipe["encoder"] = {"layers": 1, "width": 16, "heads": 2, "hidden": 16}
    for task in recipe["tasks"].values():
        task |= {"max_rows": 18, "dev_rows": 6}
    ROOMS[room][1](recipe, name)
    for task in recipe["tasks"].values():
        if "dev" not in task:
            task.pop("dev_rows")
    return recipe


@pytest.fixture
def survivor(crashed: Callable[..., Path], tmp_path: Path) -> Survivor:
    """Trains a recipe, once in one go and once with a crash and a resumption, and returns the run after comparing them."""

    def survive(recipe: dict[str, Any]) -> Path:
        whole, run = train(recipe, tmp_path / "whole").folder, crashed(recipe, tmp_path / "run", 3)
        resume(run)
        same_runs(whole, run)
        return whole

    return survive


@pytest.mark.parametrize(("room", "name"), list(members()))
def test_a_run_with_it_survives_a_crash_bit_for_bit_and_predicts(
    tiny: Tiny, survivor: Survivor, room: str, name: str
) -> None:
    whole = survivor(recipe_with(tiny, room, name))
    predictor = load(whole)
    for task, record in predictor.tasks.items():
        texts: list[Any] = ["a film"] if len(record.text) == 1 else [("a film", "a story")]
        assert len(predictor.predict(task, texts)) == 1


@pytest.mark.parametrize("kind", [name for name in kinds.names() if "label" not in kinds.member(name).takes])
@pytest.mark.parametrize("name", regularizers.names())
def test_a_regularizer_acts_on_pretraining_and_survives_a_crash(
    tiny: Tiny, survivor: Survivor, name: str, kind: str
) -> None:
    recipe = recipe_with(tiny, "kinds", kind)
    _regularizer(recipe, name)
    (task,) = (task for task, settings in recipe["tasks"].items() if "label" not in settings)
    events = read_journal(survivor(recipe) / "journal.jsonl")
    penalties = [event["penalties"][task] for event in events if event["event"] == "step"]
    assert len(penalties) == 5
    assert all(math.isfinite(penalty) for penalty in penalties)
    assert penalties[-1] > 0


@pytest.mark.parametrize("room", ROOMS)
def test_it_is_listed_with_a_first_line(room: str) -> None:
    listed = catalogue(room)[room]
    assert set(listed) >= set(ROOMS[room][0].names())
    for name, line in listed.items():
        assert line.endswith((".", ")")), f"{name}: {line}"
        assert len(line) > 15
