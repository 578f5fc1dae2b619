"""A batch that memory does not hold is split further; with dropout off, the result is that of the whole batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.assembly.parts import Parts
from polytask.errors import Interrupted, OutOfMemory
from polytask.evaluation import predicting
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.jobs.verify import same_runs
from polytask.model import Model
from polytask.packing import RowBatch
from polytask.run.events import StepResult
from polytask.run.journal import read_journal
from polytask.run.listen import Watcher
from polytask.runtime.device import is_out_of_memory
from polytask.training.step import Step

Tiny = Callable[..., dict[str, Any]]

NO_MEMORY = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to…"


class SmallMemory:
    """A memory that holds ``rows`` rows of a forward pass, and counts how often it was asked for more."""

    def __init__(self, rows: int, patch: pytest.MonkeyPatch) -> None:
        self.rows, self.refused = rows, 0
        real = Model.read

        def read(model: Model, batch: RowBatch, *rest: Any, **options: Any) -> Any:
            if len(batch.rows) > self.rows:
                self.refused += 1
                raise RuntimeError(NO_MEMORY)
            return real(model, batch, *rest, **options)

        patch.setattr(Model, "read", read)


class Notes(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.shrunk: list[int] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, step: int, result: StepResult) -> None:
        if result.shrunk_to is not None:
            self.shrunk.append(result.shrunk_to)


STAGE = {"batch_size": 10, "learning_rate": 1e-3, "steps": 6, "mixing": "joint", "aggregator": "pcgrad"}


def test_what_counts_as_a_lack_of_memory() -> None:
    assert is_out_of_memory(RuntimeError(NO_MEMORY))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(OSError("can't allocate memory"))


def test_torch_says_so_in_the_words_that_are_looked_for() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("memory", [1, 3, 5, 9])
def test_smaller_micro_batches_give_the_same_step(
    tiny: Tiny, parts_of: Callable[[Mapping[str, Any]], Parts], step_of: Callable[..., Step], memory: int
) -> None:
    results, weights, shrunk = [], [], []
    for rows in (10, memory):
        step = step_of(parts_of(tiny(STAGE, drop=0.0)))
        with pytest.MonkeyPatch.context() as patch:
            small = SmallMemory(rows, patch)
            done = [step(number) for number in range(3)]
        results.append([(result.losses, result.norm, result.rows) for result in done])
        shrunk.append([result.shrunk_to for result in done])
        weights.append({name: tensor.clone() for name, tensor in step.weights.tensors().items()})
    assert small.refused <= 4  # once found, the size is kept
    assert shrunk[0] == [None] * 3
    assert shrunk[1][0] is not None
    assert shrunk[1][0] <= memory
    assert shrunk[1][1:] == [None, None]
    for whole, split in zip(*results, strict=True):
        assert split[0] == pytest.approx(whole[0], rel=1e-5)
        assert split[1] == pytest.approx(whole[1], rel=1e-4)
        assert split[2] == whole[2]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=2e-5)


def test_a_run_says_so_once_and_a_resumed_one_goes_on_with_what_fits(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(STAGE, checkpoint_every=2)
    with pytest.MonkeyPatch.context() as patch:
        SmallMemory(4, patch)
        whole = train(recipe, tmp_path / "whole").folder
        notes = Notes()
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "run", listeners=[StopAt(4)])
        resume(tmp_path / "run", listeners=[notes])
    assert notes.shrunk == []
    same_runs(whole, tmp_path / "run")
    memory = [event for event in read_journal(whole / "journal.jsonl") if event["event"] == "memory"]
    assert memory == [{"event": "memory", "stage": 0, "step": 1, "micro_batch": 2}]


def test_the_person_is_told(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SmallMemory(4, monkeypatch)
    notes = Notes()
    train(tiny(STAGE), tmp_path / "run", listeners=[notes])
    assert "Memory did not hold the batch of step 1: micro-batches of 2 rows from here on." in notes.notes


class StopAt(Watcher):
    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, step: int, result: StepResult) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_single_row_that_does_not_fit_is_an_error_that_names_the_task(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallMemory(0, monkeypatch)
    with pytest.raises(OutOfMemory, match=r"even one row of task '\w+' \(stage 1, step 1\): lower max_length"):
        train(tiny(STAGE), tmp_path / "run")


def test_another_failure_is_not_taken_for_a_lack_of_memory(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Model, "encode", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train(tiny(STAGE), tmp_path / "run")


@pytest.mark.parametrize("memory", [1, 3, 7])
def test_predictions_come_in_smaller_batches_too(
    trained: Path, tables: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    wanted = load(trained).evaluate()
    SmallMemory(memory, monkeypatch)
    found = load(trained).evaluate()
    for task, scores in wanted.tasks.items():
        assert found.tasks[task].values == pytest.approx(scores.values, rel=1e-4, abs=1e-7)
    monkeypatch.setattr(predicting, "_TOKENS", 10**6)
    SmallMemory(0, monkeypatch)
    with pytest.raises(OutOfMemory, match="even one row of task"):
        load(trained).evaluate()


LIMITED = """
import json, resource, sys
import torch
from polytask.jobs.train import train
from polytask.run.listen import Watcher

class Limit(Watcher):
    # From the second step on there is little more memory than there was.
    def step(self, step, result):
        if step == 1:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), resource.RLIM_INFINITY))
    def note(self, text):
        sys.stderr.write(text + "\\n")
    def evaluating(self, *args):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

train(json.load(sys.stdin), sys.argv[1], listeners=[Limit()])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's address space")
def test_a_machine_that_really_has_no_more_memory(tiny: Tiny, tmp_path: Path) -> None:
    # 64 rows of 400 tokens want half a gigabyte; a few rows fit into what is left.
    long = [{"sentence": "word " * 400, "sentiment": str(n % 2), "id": str(n)} for n in range(64)]
    short = [{"sentence": "word", "sentiment": str(n % 2), "id": str(n)} for n in range(8)]
    recipe = tiny({"steps": 3, "batch_size": 64, "learning_rate": 1e-3, "evaluate_every": 3}, only=("sentiment",))
    recipe["tasks"]["sentiment"] |= {"train": long, "dev": short}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "run")],
        input=json.dumps(recipe),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert done.returncode == 0, done.stderr
    assert "Memory did not hold the batch of step 2" in done.stderr
    assert [e["event"] for e in read_journal(tmp_path / "run" / "journal.jsonl")].count("memory") >= 1
