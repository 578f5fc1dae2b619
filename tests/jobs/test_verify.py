"""``polytask verify-resume``: real processes, really killed; and a comparison that sees every difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from polytask.errors import PolytaskError, RecipeError, RunFolderError
from polytask.jobs.verify import same_runs, verify_resume
from polytask.recipe.reading import parse_recipe
from polytask.recipe.toml import to_toml

Tiny = Callable[..., dict[str, Any]]


def test_a_run_is_killed_and_compared(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(
        {"batch_size": 10, "learning_rate": 1e-3, "train": "heads"},
        {"batch_size": 10, "learning_rate": 1e-3, "mixing": "joint", "aggregator": "pcgrad", "micro_batch": 4},
    )
    (tmp_path / "recipe.toml").write_text(to_toml(parse_recipe(recipe, "tiny")), encoding="utf-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    told: list[str] = []
    out = tmp_path / "kept"
    report = verify_resume(tmp_path / "recipe.toml", steps=12, kills=4, out=out, note=told.append)
    assert report.steps == 24
    assert len(report.kills) == 4
    assert report.in_checkpoints == 2
    assert 0 <= report.repeated <= 4 * 3  # a checkpoint every three steps
    assert report.compared[-1] == "the journal"
    assert sum("Killed after" in line for line in told) == 4
    assert {path.name for path in out.iterdir()} >= {"recipe.toml", "peace", "killed-1"}


def test_a_bad_recipe_is_told_before_anything_is_trained(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such key"):
        verify_resume(tiny(nonsense=1), out=tmp_path / "kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RunFolderError, match="not empty"):
        verify_resume(tiny(), out=tmp_path / "full")


def test_a_training_that_fails_by_itself_is_no_proof(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny()
    recipe["tasks"]["sentiment"]["label"] = "mood"
    with pytest.raises(PolytaskError, match="no column 'mood'"):
        verify_resume(recipe, steps=2, kills=1)


def _flip_a_weight(run: Path) -> None:
    path = next((run / "weights").iterdir())
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name] = np.nextafter(tensors[name], np.float32(9))
    save_file(tensors, path)


def _change_a_loss(run: Path) -> None:
    lines = (run / "journal.jsonl").read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"step"' in line and '"norm"' in line)
    event = json.loads(lines[place])
    lines[place] = json.dumps(event | {"norm": event["norm"] * (1 + 1e-15)})
    (run / "journal.jsonl").write_text("\n".join(lines) + "\n")


def _drop_an_event(run: Path) -> None:
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(lines[:-1]))


def _change_a_prediction(run: Path) -> None:
    path = next((run / "predictions").iterdir())
    path.write_text(path.read_text() + "x,1\n")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_flip_a_weight, "weights/"),
        (_change_a_loss, "the journal"),
        (_drop_an_event, "the journal"),
        (_change_a_prediction, "predictions/"),
        (lambda run: (run / "model.safetensors").unlink(), "the list of files"),
        (lambda run: (run / "state" / ".x.part").touch(), "the list of files"),
    ],
)
def test_every_difference_is_seen(trained: Path, tmp_path: Path, change: Callable[[Path], None], where: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    assert len(same_runs(trained, other)) == 4
    change(other)
    with pytest.raises(PolytaskError, match=f"differs from the uninterrupted one in {where}"):
        same_runs(trained, other)


def test_clocks_do_not_count(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    events = [json.loads(line) for line in (other / "journal.jsonl").read_text().splitlines()]
    (other / "journal.jsonl").write_text(
        "".join(json.dumps(e | ({"seconds": 77.0} if "seconds" in e else {})) + "\n" for e in events)
    )
    same_runs(trained, other)
