"""Who looks on while a run trains, and how it is asked to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from .step import StepResult


class Watcher:
    """Told of what happens, as it happens; this one keeps it to itself."""

    def stage(self, number: int, stages: int, start: int, steps: int) -> None:
        """A stage begins at step ``start`` of ``steps``."""

    def step(self, step: int, result: StepResult) -> None:
        """A step was taken."""

    def evaluating(self, task: str, rows: int, done: int) -> None:
        """``done`` of a task's ``rows`` dev rows are predicted."""

    def evaluated(self, epoch: float, scores: Mapping[str, Mapping[str, float]], aggregate: float, best: bool) -> None:
        """The dev tables were scored."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""


class StopRequest:
    """Whether somebody asked for a stop."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Let SIGINT and SIGTERM ask for a stop after the step; a second one takes its usual way at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
