"""A run that was interrupted, wherever, ends as if it had not been: same weights, predictions and journal, to the bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from polytask.errors import Interrupted, RunFolderError, TableError
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.run.events import StepResult
from polytask.run.folder import RunFolder
from polytask.run.journal import read_journal
from polytask.run.listen import Watcher
from polytask.run.scores import Scores

Tiny = Callable[..., dict[str, Any]]

STAGE = {"batch_size": 10, "learning_rate": 1e-3, "epochs": 1}
TWO_STAGES = ({**STAGE, "train": "heads"}, STAGE)

MIXED: dict[str, tuple[Mapping[str, Any], ...]] = {
    "two stages": TWO_STAGES,
    "joint, pcgrad": (
        {**STAGE, "steps": 12, "epochs": None, "mixing": "joint", "aggregator": "pcgrad", "micro_batch": 4},
    ),
    "joint, famo, gradvac, diagnosed": (
        {
            **STAGE,
            "steps": 12,
            "epochs": None,
            "mixing": "joint",
            "micro_batch": 4,
            "evaluate_every": 5,
            "balance": "famo",
            "aggregator": {"name": "gradvac", "beta": 0.3},
            "diagnose": True,
        },
    ),
    "uncertainty, then dwa": ({**STAGE, "balance": "uncertainty"}, {**STAGE, "balance": {"name": "dwa", "period": 3}}),
    "annealed": ({**STAGE, "epochs": 2, "mixing": "annealed"},),
    "rdrop": ({**STAGE, "regularizers": [{"name": "rdrop", "weight": {"sentiment": 1.0, "similarity": 0.5}}]},),
    "smart, teacher": (
        {
            **STAGE,
            "regularizers": [{"name": "smart", "radius": 0.2, "weight": {"similarity": 2.0}}, {"name": "bregman"}],
        },
    ),
    "averaged": ({**STAGE, "average": 0.9, "layer_decay": 0.8}, {**STAGE, "train": {"last": 1}, "average": 1.0}),
    "early stopping": (
        {**STAGE, "epochs": 9, "evaluate_every": 3, "early_stopping": {"patience": 1, "minimum": 0.01}},
        STAGE,
    ),
    "last layers, adam": ({**STAGE, "train": {"last": 1}, "optimizer": "adam", "schedule": "cosine"},),
}


class Crash(RuntimeError):
    """What a watcher raises to tear a run down."""


class At(Watcher):
    """Does something after the n-th step of a run, counted over its stages."""

    def __init__(self, steps: int, act: Callable[[], None]) -> None:
        self.left, self.act = steps, act

    def step(self, step: int, result: StepResult) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


class AtEvaluation(Watcher):
    """Crashes in the n-th evaluation, its scores known and nothing of it saved."""

    def __init__(self, evaluations: int) -> None:
        self.left = evaluations

    def evaluated(self, epoch: float, scores: Mapping[str, Scores], aggregate: float, best: bool) -> None:
        self.left -= 1
        if self.left == 0:
            crash()


class InEvaluation(Watcher):
    """Asks for a stop when the first rows of an evaluation of a task are predicted."""

    def __init__(self, task: str) -> None:
        self.task: str | None = task

    def evaluating(self, task: str, rows: int, done: int) -> None:
        if task == self.task:
            self.task = None
            interrupt()


def crash() -> None:
    raise Crash


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def journal(run: Path) -> list[dict[str, Any]]:
    """Return the events without their clocks."""
    events = read_journal(run / "journal.jsonl")
    assert all("seconds" in event for event in events if event["event"] in ("step", "evaluation"))
    return [{key: value for key, value in event.items() if key != "seconds"} for event in events]


def contents(run: Path) -> Iterator[str]:
    yield from (str(path.relative_to(run)) for path in sorted(run.rglob("*")) if path.is_file())


def assert_same(one: Path, other: Path) -> None:
    """Two run folders hold the same, to the bit, clocks aside."""
    assert journal(one) == journal(other)
    assert list(contents(one)) == list(contents(other))
    assert sum(name.endswith(".safetensors") for name in contents(one)) >= 3
    for name in contents(one):
        if name.endswith(".safetensors"):
            tensors, others = load_file(one / name), load_file(other / name)
            assert tensors.keys() == others.keys()
            for key, tensor in tensors.items():
                assert tensor.dtype == others[key].dtype
                assert tensor.tobytes() == others[key].tobytes(), f"{key} in {name}"
        elif name == "index.json":
            indexes = [json.loads((run / name).read_text()) for run in (one, other)]
            assert indexes[0].pop("journal") > 0
            assert indexes[1].pop("journal") > 0  # the clocks' digits count
            assert indexes[0] == indexes[1]
        elif name != "journal.jsonl":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def whole_and_steps(recipe: Mapping[str, Any], tmp_path: Path) -> tuple[Path, int]:
    """Return a run that nothing interrupted, and how many steps it took."""
    run = train(recipe, tmp_path / "whole").folder
    steps = sum(event["event"] == "step" for event in journal(run))
    assert steps >= 12
    return run, steps


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stages", MIXED.values(), ids=list(MIXED))
def test_a_crash_at_any_step_leaves_no_trace(
    tiny: Tiny, tmp_path: Path, stages: tuple[Mapping[str, Any], ...], precision: str
) -> None:
    recipe = tiny(*stages, precision=precision, checkpoint_every=4)
    whole, steps = whole_and_steps(recipe, tmp_path)
    # before the first checkpoint, after one, on one; in the first stage and in the last; at the last step
    for place in {"float32": {1, 6, 4 * (steps // 6), steps - 3, steps}, "bfloat16": {steps - 3}}[precision]:
        run = tmp_path / f"crash-{place}"
        with pytest.raises(Crash):
            train(recipe, run, listeners=[At(place, crash)])
        resume(run)
        assert_same(whole, run)


def separate(tiny: Tiny, **changes: Any) -> dict[str, Any]:
    """An encoder for each task, one stage each, evaluated so often that bests come from all over; pairs symmetric."""
    recipe = tiny(
        {**STAGE, "tasks": ["sentiment"], "evaluate_every": 2},
        {**STAGE, "tasks": ["paraphrase"], "batch_size": 12, "evaluate_every": 1, "early_stopping": {"patience": 3}},
        {**STAGE, "tasks": ["similarity"], "learning_rate": 1e-2, "evaluate_every": 2},
        **changes,
    )
    for task in recipe["tasks"].values():
        task |= {"encoder": "own", "symmetric": isinstance(task["text"], list)}
    return recipe


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_encoders_of_tasks_own_and_their_joint_best_come_back(tiny: Tiny, tmp_path: Path, precision: str) -> None:
    recipe = separate(tiny, precision=precision, checkpoint_every=3)
    whole, steps = whole_and_steps(recipe, tmp_path)
    assert str(RunFolder(whole).read_index().best).endswith("-best")  # put together from several checkpoints
    for place in {"float32": {5, 8, steps - 1}, "bfloat16": {8}}[precision]:
        run = tmp_path / f"crash-{place}"
        with pytest.raises(Crash):
            train(recipe, run, listeners=[At(place, crash)])
        resume(run)
        assert_same(whole, run)
    for evaluation in (2, 6) if precision == "float32" else ():
        run = tmp_path / f"evaluation-{evaluation}"
        with pytest.raises(Crash):
            train(recipe, run, listeners=[AtEvaluation(evaluation)])
        resume(run)
        assert_same(whole, run)
    run = tmp_path / "stop"
    with pytest.raises(Interrupted):
        train(recipe, run, listeners=[InEvaluation("paraphrase")])
    resume(run)
    assert_same(whole, run)


def test_a_run_may_be_interrupted_over_and_over(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(*TWO_STAGES, checkpoint_every=1000)
    whole, _ = whole_and_steps(recipe, tmp_path)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(recipe, run, listeners=[At(2, interrupt)])
    for act in (interrupt, terminate, interrupt):
        with pytest.raises(Interrupted):
            resume(run, listeners=[At(5, act)])
    resume(run)
    assert_same(whole, run)


@pytest.mark.parametrize(("act", "name"), [(interrupt, "SIGINT"), (terminate, "SIGTERM")])
def test_being_asked_to_stop_saves_the_step_and_says_how_to_go_on(
    tiny: Tiny, tmp_path: Path, act: Callable[[], None], name: str
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run = tmp_path / "run"
    with pytest.raises(Interrupted) as raised:
        train(tiny(STAGE), run, listeners=[At(3, act)])
    assert name in str(raised.value)
    assert f"polytask.resume({str(run)!r})" in str(raised.value)
    assert raised.value.exit_code == 130
    index = RunFolder(run).read_index()
    assert (index.stage, index.step, index.finished) == (0, 3, False)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not (run / "model.safetensors").exists()


def test_a_second_request_does_not_wait(tiny: Tiny, tmp_path: Path) -> None:
    def twice() -> None:
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        train(tiny(STAGE), tmp_path / "run", listeners=[At(2, twice)])


def test_the_last_step_of_a_stage_and_of_the_run_are_places_like_others(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(*TWO_STAGES)
    whole, steps = whole_and_steps(recipe, tmp_path)
    first = sum(event["event"] == "step" and event["stage"] == 0 for event in journal(whole))
    for place in (first, first + 1, steps):
        run = tmp_path / f"stop-{place}"
        with pytest.raises(Interrupted):
            train(recipe, run, listeners=[At(place, interrupt)])
        resume(run)
        assert_same(whole, run)


def test_a_crash_within_an_evaluation(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(*MIXED["early stopping"], checkpoint_every=5)
    whole, _ = whole_and_steps(recipe, tmp_path)
    for evaluation in (1, 2):
        run = tmp_path / f"crash-{evaluation}"
        with pytest.raises(Crash):
            train(recipe, run, listeners=[AtEvaluation(evaluation)])
        resume(run)
        assert_same(whole, run)


@pytest.mark.parametrize("task", ["sentiment", "similarity"])
def test_being_asked_to_stop_within_an_evaluation(tiny: Tiny, tmp_path: Path, task: str) -> None:
    for place, stages in enumerate((TWO_STAGES, MIXED["early stopping"])):
        recipe = tiny(*stages)
        whole = train(recipe, tmp_path / f"whole-{place}").folder
        run = tmp_path / f"run-{place}"
        with pytest.raises(Interrupted):
            train(recipe, run, listeners=[InEvaluation(task)])
        with pytest.raises(Interrupted):
            resume(run, listeners=[InEvaluation(task)])  # and again
        resume(run)
        assert_same(whole, run)


def test_early_stopping_ends_a_stage_and_every_best_can_be_loaded(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(*MIXED["early stopping"])
    run, _ = whole_and_steps(recipe, tmp_path)
    taken = [event["step"] for event in journal(run) if event["event"] == "step" and event["stage"] == 0]
    assert max(taken) < 9 * 18
    index = RunFolder(run).read_index()
    evaluations = {event["aggregate"]: event for event in journal(run) if event["event"] == "evaluation"}
    assert index.best_aggregate in evaluations
    for task in recipe["tasks"]:
        predictor = load(run, checkpoint=f"best-{task}")
        first = predictor.tasks[task].kind.metrics[0]
        scored = max(e["scores"][task][first] for e in journal(run) if e["event"] == "evaluation")
        assert predictor.evaluate("dev").tasks[task].values[first] == scored == index.best_values[task]


def test_every_best_survives_a_stage_that_gives_up(tiny: Tiny, tmp_path: Path) -> None:
    # Only the aggregate counts for giving up; a task may have its best at that very evaluation.
    stage = {**STAGE, "epochs": 30, "evaluate_every": 2, "early_stopping": {"patience": 1, "minimum": 5.0}}
    run = train(tiny(stage), tmp_path / "run").folder
    steps = [event["step"] for event in journal(run) if event["event"] == "step"]
    assert steps == [1, 2, 3, 4]  # the second evaluation is not better by 5
    index = RunFolder(run).read_index()
    for name in {index.last, index.best, *index.best_of.values()}:
        assert RunFolder(run).weights(str(name)).is_file()
    for task in index.best_of:
        load(run, checkpoint=f"best-{task}")
    resume(run)


def test_resuming_a_finished_run_does_nothing(tiny: Tiny, tmp_path: Path) -> None:
    run, _ = whole_and_steps(tiny(STAGE), tmp_path)
    kept = tmp_path / "kept"
    shutil.copytree(run, kept)
    times = {name: (run / name).stat().st_mtime_ns for name in contents(run) if name != ".lock"}
    resume(run)
    assert times == {name: (run / name).stat().st_mtime_ns for name in contents(run) if name != ".lock"}
    assert (run / "journal.jsonl").read_bytes() == (kept / "journal.jsonl").read_bytes()
    assert_same(kept, run)


def left_run(recipe: Mapping[str, Any], run: Path, steps: int = 5) -> Path:
    with pytest.raises(Interrupted):
        train(recipe, run, listeners=[At(steps, interrupt)])
    return run


def test_a_run_that_is_resumed_needs_nothing_but_its_folder_and_tables(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(STAGE)
    whole, _ = whole_and_steps(recipe, tmp_path)
    for place, act, error in ((1, crash, Crash), (5, interrupt, Interrupted)):
        with pytest.raises(error):
            train(recipe, tmp_path / f"left-{place}", listeners=[At(place, act)])
        moved = tmp_path / "elsewhere" / f"moved-{place}"
        moved.parent.mkdir(exist_ok=True)
        (tmp_path / f"left-{place}").rename(moved)
        monkeypatch.chdir(moved.parent)
        monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "another cache"))
        resume(f"moved-{place}")
        assert_same(whole, moved)


def test_a_changed_table_is_refused(tiny: Tiny, tables: Path, tmp_path: Path) -> None:
    own = tmp_path / "tables"
    shutil.copytree(tables, own)
    run = left_run(tiny(STAGE, data=str(own)), tmp_path / "run")
    before = list(contents(run))
    table = (own / "paraphrase-dev.csv").read_bytes()
    (own / "paraphrase-dev.csv").write_bytes(table.replace(b"The ", b"A ", 1))
    with pytest.raises(TableError, match=r"paraphrase-dev\.csv \(the dev table of task 'paraphrase'\) has changed"):
        resume(run)
    assert list(contents(run)) == before
    (own / "paraphrase-dev.csv").write_bytes(table)
    resume(run)
    assert RunFolder(run).read_index().finished


def test_other_surroundings_are_refused_unless_told(tiny: Tiny, tmp_path: Path) -> None:
    run = left_run(tiny(STAGE), tmp_path / "run")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(RunFolderError, match=rf"threads: {threads}, here {threads + 1}.*elsewhere=True"):
            resume(run)
        assert RunFolder(run).read_index().step == 5
        resume(run, elsewhere=True)
    finally:
        torch.set_num_threads(threads)
    assert RunFolder(run).read_index().finished


def test_another_number_of_processes_is_another_surrounding(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = left_run(tiny(STAGE), tmp_path / "run")
    assert "processes = 1" in (run / "recipe.toml").read_text()
    monkeypatch.setattr("polytask.jobs.train.surroundings", lambda device, processes: {"processes": processes + 1})
    with pytest.raises(RunFolderError, match="processes: 1, here 2"):
        resume(run)


def test_a_folder_that_a_process_trains_into_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    complaints: list[str] = []

    def try_too() -> None:
        try:
            resume(tmp_path / "run")
        except RunFolderError as error:
            complaints.append(str(error))

    recipe = tiny(STAGE)
    whole, _ = whole_and_steps(recipe, tmp_path)
    train(recipe, tmp_path / "run", listeners=[At(5, try_too)])
    assert complaints == [f"Another process is training into {tmp_path / 'run'}."]
    assert_same(whole, tmp_path / "run")


def test_in_a_thread_there_are_no_signals_to_wait_for(tiny: Tiny, tmp_path: Path) -> None:
    done: list[Path] = []
    thread = threading.Thread(
        target=lambda: done.append(train(tiny({**STAGE, "steps": 3} | {"epochs": None}), tmp_path / "run").folder)
    )
    thread.start()
    thread.join()
    assert done == [tmp_path / "run"]


KILLED = """
import json, os, signal, sys
from polytask.jobs.train import train
from polytask.run.listen import Watcher
from polytask.run.scores import Scores

class Kill(Watcher):
    def step(self, step, result):
        if step == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

train(json.loads(sys.argv[1]), sys.argv[2], listeners=[Kill()])
"""


@pytest.mark.parametrize("step", [2, 7])
def test_a_killed_process(tiny: Tiny, tmp_path: Path, step: int) -> None:
    recipe = tiny(STAGE, checkpoint_every=4)
    whole, _ = whole_and_steps(recipe, tmp_path)
    run = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, json.dumps(recipe), str(run), str(step)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resume(run)
    assert_same(whole, run)


@pytest.mark.parametrize("kind", ["weights", "state"])
def test_a_damaged_checkpoint_is_named(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    run = left_run(tiny(STAGE), tmp_path / "run")
    (file,) = (run / kind).iterdir()
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\0" * 100):
        file.write_bytes(damaged)
        with pytest.raises(RunFolderError, match=f"{file.name} is damaged"):
            resume(run)
    file.unlink()
    with pytest.raises(RunFolderError, match=f"{file.name} is missing"):
        resume(run)
    file.write_bytes(whole)
    resume(run)


@pytest.mark.parametrize(
    ("name", "damage", "wanted"),
    [
        ("encoder.json", "{", r"encoder\.json is damaged"),
        ("encoder.json", None, r"encoder\.json is missing"),
        ("tokenizer.json", "{}", r"tokenizer\.json is damaged"),
        ("tokenizer.json", None, r"tokenizer\.json is missing"),
        ("recipe.toml", "= [", r"recipe\.toml is damaged"),
        ("recipe.toml", None, r"holds no recipe\.toml"),
        ("index.json", "[]", r"index\.json is not an index"),
        ("journal.jsonl", "", r"journal\.jsonl has 0 bytes"),
    ],
)
def test_a_damaged_run_folder_is_an_error_that_names_the_file(
    tiny: Tiny, tmp_path: Path, name: str, damage: str | None, wanted: str
) -> None:
    run = left_run(tiny(STAGE), tmp_path / "run", steps=1)
    (run / name).unlink()
    if damage is not None:
        (run / name).write_text(damage)
    with pytest.raises(RunFolderError, match=wanted):
        resume(run)


def test_what_fails_before_the_first_step_leaves_no_folder_behind(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(STAGE)
    recipe["tasks"]["sentiment"]["label"] = "mood"
    with pytest.raises(TableError, match="no column 'mood'"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_is_never_written_over(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("all my work")
    with pytest.raises(RunFolderError, match="already exists, is not empty and is no run folder"):
        train(tiny(STAGE), tmp_path / "run")
    assert list(contents(tmp_path / "run")) == ["thesis.txt"]
