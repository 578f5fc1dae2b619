"""What all tests share. Property tests are derandomised: a run tells the same as the run before."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

# One thread each, child processes included: two test processes of two threads on two cores would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("polytask", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("polytask")

ROWS = {"train": 60, "dev": 20}


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder that belongs to this test session."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYTASK_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small tables of three tasks, 60 rows to train on and 20 to judge by: ``<task>-<split>.csv``."""
    from polytask.starter.examples import TABLES

    folder = tmp_path_factory.mktemp("tables")
    for task, rows_of in TABLES.items():
        for split, count in ROWS.items():
            rows = rows_of("train" if split == "train" else "dev", 0)
            with (folder / f"{task}-{split}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows[:: len(rows) // count][:count])
    return folder


@pytest.fixture(scope="module")
def tiny(tables: Path, own_cache: Path) -> Callable[..., dict[str, Any]]:
    """Makes recipes that train in a blink, without any download: a new two-layer BERT, three tasks of three kinds.

    Called with its stages (one of two epochs if there are none) and changes to the top of the recipe; ``drop`` is the
    dropout everywhere, ``only`` names the tasks to keep.
    """

    def make(
        *stages: Mapping[str, Any], drop: float = 0.1, only: tuple[str, ...] | None = None, **changes: Any
    ) -> dict[str, Any]:
        head = {"name": "linear", "dropout": drop}
        pair = {"text": ["sentence1", "sentence2"], "head": head}
        tasks: dict[str, dict[str, Any]] = {
            "sentiment": {"kind": "classification", "text": "sentence", "label": "sentiment", "head": head},
            "paraphrase": {"kind": "binary", "label": "is_duplicate", **pair},
            "similarity": {
                "kind": {"name": "regression", "range": [0.0, 5.0]},
                "label": "similarity",
                "pair": "bi",
                "pooling": "mean",
                **pair,
            },
        }
        for name, task in tasks.items():
            task |= {"train": f"{name}-train.csv", "dev": f"{name}-dev.csv"}
        return {
            "data": str(tables),
            "precision": "float32",
            "device": "cpu",
            "encoder": {"layers": 2, "width": 32, "heads": 2, "hidden": 64, "dropout": drop},
            "tasks": {name: task for name, task in tasks.items() if only is None or name in only},
            "stages": [dict(stage) for stage in stages] or [{"epochs": 2, "batch_size": 10, "learning_rate": 1e-3}],
            **changes,
        }

    return make


@pytest.fixture(scope="module")
def trained(tiny: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe; to look at, not to change."""
    from polytask.jobs.train import train

    return train(tiny(), tmp_path_factory.mktemp("trained") / "run").folder


@pytest.fixture
def crashed() -> Callable[[Mapping[str, Any], Path, int], Path]:
    """Trains a recipe into a folder and tears the run down after its n-th step, counted over its stages."""
    from polytask.jobs.train import train
    from polytask.run.listen import Watcher

    class Crash(RuntimeError):
        pass

    class At(Watcher):
        def __init__(self, steps: int) -> None:
            self.left = steps

        def step(self, step: int, result: object) -> None:
            self.left -= 1
            if not self.left:
                raise Crash

    def crash(recipe: Mapping[str, Any], run: Path, steps: int) -> Path:
        with pytest.raises(Crash):
            train(recipe, run, listeners=[At(steps)])
        return run

    return crash


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def polytask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> Callable[..., Said]:
    """Runs a command in this process."""
    from typer.main import get_command

    room: Any = import_module("polytask.cli.main")  # the package gives its function the same name
    command = get_command(room.app)  # once: building it takes longer than what it is asked
    monkeypatch.setattr(room, "app", command)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["polytask", *map(str, arguments)])
        capsys.readouterr()
        try:
            room.main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        return Said(code, *capsys.readouterr())

    return run
