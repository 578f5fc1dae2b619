"""Events: what is written is read back as the same records; what is no event is named; listeners may stop a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.errors import Interrupted, RunFolderError
from polytask.jobs.train import resume, train
from polytask.run.events import (
    RECORDED,
    Evaluated,
    Event,
    MemoryShrunk,
    PassDescribed,
    Recorded,
    StageEnded,
    Started,
    Stepped,
    StepResult,
    from_json,
)
from polytask.run.journal import read_events
from polytask.run.listen import Listener, Watcher
from polytask.run.scores import Scores

EXAMPLES: list[Recorded] = [
    Started(1, "own", "shared"),
    PassDescribed(0, "sst", 10, 10, 2, 0.5, 1, 0.01),
    MemoryShrunk(0, 3, 4),
    Stepped(0, 1, 0.1, StepResult({"sst": 0.5}, {}, 1.0, 1e-3, 10, 100), 0.2),
    Stepped(0, 2, 0.2, StepResult({"sst": 0.5}, {"sst": 0.1}, 1.0, 1e-3, 10, 100, cosines={"a~b": -0.1}), 0.2),
    Evaluated(0, 2, 0.2, {"sst": Scores(20, {"accuracy": 0.5})}, 0.5, True, 0.1),
    Evaluated(0, 2, 0.2, {"sst": Scores(20, {"accuracy": 0.5})}, 0.5, False, 0.1, conflict=0.8),
    StageEnded(0, 2, 0.8),
]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.name)
def test_an_event_reads_back_as_it_was(event: Recorded) -> None:
    assert from_json(event.to_json()) == event


def test_every_recorded_event_has_an_example() -> None:
    assert {event.name for event in EXAMPLES} == RECORDED.keys()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"event": "stp"}, "'stp' is not an event of a journal. Did you mean 'step'?"),
        ({}, "None is not an event"),
        ([], "None is not an event"),
        ({"event": "stage", "stage": 0}, "An event 'stage' of a journal is damaged: .*missing"),
        ({"event": "stage", "stage": 0, "step": 1, "conflict": 0.5, "more": 1}, "damaged: .*unexpected"),
        ({"event": "evaluation", "stage": 0, "step": 1, "scores": 3}, "damaged"),
    ],
)
def test_what_is_no_event_is_named(line: Any, told: str) -> None:
    with pytest.raises(RunFolderError, match=told):
        from_json(line)


class Ears(Listener):
    """Hears, and asks for a stop at a step."""

    def __init__(self, at: int | None = None) -> None:
        self.heard: list[Event] = []
        self.at = at

    def hear(self, event: Event) -> str | None:
        self.heard.append(event)
        return "the pruner" if isinstance(event, Stepped) and event.step == self.at else None


def test_the_journal_keeps_what_listeners_heard(tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    one, other = Ears(), Ears()
    run = train(tiny({"steps": 5, "batch_size": 10, "evaluate_every": 2}), tmp_path / "run", listeners=[one, other])
    assert one.heard == other.heard
    assert read_events(run / "journal.jsonl") == [event for event in one.heard if isinstance(event, Recorded)]


def test_any_listener_may_stop_a_run_which_then_goes_on(tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    recipe = tiny({"steps": 9, "batch_size": 10})
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(Interrupted, match="Stopped by the pruner"):
        train(recipe, tmp_path / "run", listeners=[Watcher(), Ears(at=4)])
    again = resume(tmp_path / "run")
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
