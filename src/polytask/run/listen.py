"""Who hears what happens while a run trains: the terminal, the journal, a tracker, whoever may ask it to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .events import Evaluated, Evaluating, Event, MemoryShrunk, Noted, StageBegins, Stepped, StepResult
from .scores import Scores


class Listener:
    """Hears every event, in order; this one keeps it to itself."""

    def hear(self, event: Event) -> str | None:
        """Take note of an event. A text asks the run to stop and says who asks: it stops after the step, resumable."""
        return None


class Audience(Listener):
    """Several listeners, who hear one after the other."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = list(listeners)

    def hear(self, event: Event) -> str | None:
        asked = [listener.hear(event) for listener in self.listeners]
        return next((by for by in asked if by is not None), None)

    def note(self, text: str) -> None:
        """Have everybody hear a note."""
        self.hear(Noted(text))


class Watcher(Listener):
    """A listener with a method for each thing that a person at a terminal wants to see."""

    def hear(self, event: Event) -> str | None:
        match event:
            case StageBegins():
                self.stage(event.number, event.stages, event.start, event.steps)
            case Stepped():
                self.step(event.step, event.result)
            case MemoryShrunk():
                rows = f"{event.micro_batch} row{'s' if event.micro_batch > 1 else ''}"
                self.note(f"Memory did not hold the batch of step {event.step}: micro-batches of {rows} from here on.")
            case Evaluating():
                self.evaluating(event.task, event.rows, event.done)
            case Evaluated():
                self.evaluated(event.epoch, event.scores, event.aggregate, event.best)
            case Noted():
                self.note(event.text)
        return None

    def stage(self, number: int, stages: int, start: int, steps: int) -> None:
        """A stage begins at step ``start`` of ``steps``."""

    def step(self, step: int, result: StepResult) -> None:
        """A step was taken."""

    def evaluating(self, task: str, rows: int, done: int) -> None:
        """``done`` of a task's ``rows`` dev rows are predicted."""

    def evaluated(self, epoch: float, scores: Mapping[str, Scores], aggregate: float, best: bool) -> None:
        """The dev tables were scored."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""
