"""What happens in a run: frozen records that its listeners hear, each of them once.

A ``Recorded`` event is a line of the journal, too: ``to_json`` gives it, ``from_json`` takes it back. What their keys mean is
versioned with the run folder (``run.index.FORMAT``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from polytask.errors import RunFolderError, listed, nearest, shown

from .scores import Scores


@dataclass(frozen=True)
class StepResult:
    """What a step did: mean loss and penalty of each of its tasks, gradient norm before clipping, rows and tokens.

    ``shrunk_to`` is the largest micro-batch from now on, if the step found that memory does not hold a larger one.
    ``cosines``: between the encoder gradients of each pair of tasks, "a~b", where they were kept apart;
    ``layer_cosines``: the same in each layer, as ``Encoder.layer_of`` counts them, of a stage that is diagnosed.
    ``weights``: what each task's loss was multiplied by, of a balance that adapts.
    """

    losses: dict[str, float]
    penalties: dict[str, float]
    norm: float
    learning_rate: float
    rows: int
    tokens: int
    shrunk_to: int | None = None
    cosines: dict[str, float] = field(default_factory=dict)
    layer_cosines: dict[str, dict[str, float]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)


class Event:
    """Something that happened."""


@dataclass(frozen=True)
class Noted(Event):
    """Something worth a line happened."""

    text: str


@dataclass(frozen=True)
class StageBegins(Event):
    """Stage ``number`` of ``stages`` begins at step ``start`` of ``steps``."""

    number: int
    stages: int
    start: int
    steps: int


@dataclass(frozen=True)
class Evaluating(Event):
    """``done`` of a task's ``rows`` dev rows are predicted."""

    task: str
    rows: int
    done: int


class Recorded(Event):
    """An event that the journal keeps, as ``name``. Fields that are empty or None are left out of the line."""

    name: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Return the event as a line of the journal holds it."""
        found = ((part.name, getattr(self, part.name)) for part in fields(self))  # type: ignore[arg-type]
        return {"event": self.name, **{key: value for key, value in found if value is not None and value != {}}}

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Recorded:
        """Return the event of this class that a line, without its name, holds."""
        return cls(**line)


@dataclass(frozen=True)
class Started(Recorded):
    """The encoder of a task's own begins as another one stands."""

    name = "start"
    stage: int
    encoder: str
    as_is: str


@dataclass(frozen=True)
class PassDescribed(Recorded):
    """What a pass over a task is made of in a stage; ``padding`` is the share that padded batches would waste."""

    name = "data"
    stage: int
    task: str
    rows: int
    rows_per_pass: int
    batches_per_pass: int
    passes: float
    truncated: int
    padding: float


@dataclass(frozen=True)
class MemoryShrunk(Recorded):
    """Memory did not hold a batch: micro-batches of so many rows from this step on."""

    name = "memory"
    stage: int
    step: int
    micro_batch: int


@dataclass(frozen=True)
class Stepped(Recorded):
    """A step was taken. ``step`` counts from 1 within the stage; ``seconds`` is a clock's and no result."""

    name = "step"
    stage: int
    step: int
    epoch: float
    result: StepResult
    seconds: float

    def to_json(self) -> dict[str, Any]:
        parts = asdict(self.result)
        kept = ("losses", "penalties", "norm", "learning_rate", "rows", "tokens", "weights", "cosines", "layer_cosines")
        always = {"losses"}
        return {
            "event": self.name,
            "stage": self.stage,
            "step": self.step,
            "epoch": self.epoch,
            **{key: parts[key] for key in kept if parts[key] != {} or key in always},
            "seconds": self.seconds,
        }

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Stepped:
        own = {key: line[key] for key in ("stage", "step", "epoch", "seconds")}
        rest = {key: value for key, value in line.items() if key not in own}
        return cls(**own, result=StepResult(**{"penalties": {}, **rest}))


@dataclass(frozen=True)
class Evaluated(Recorded):
    """The dev tables were scored. ``conflict``: the share of steps so far in which tasks' gradients were in conflict."""

    name = "evaluation"
    stage: int
    step: int
    epoch: float
    scores: Mapping[str, Scores]
    aggregate: float
    best: bool
    seconds: float
    conflict: float | None = None

    def to_json(self) -> dict[str, Any]:
        line = super().to_json()
        return line | {"scores": {task: scores.to_json() for task, scores in self.scores.items()}}

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Evaluated:
        scores = {task: Scores.from_json(table) for task, table in line["scores"].items()}
        return cls(**{**line, "scores": scores})


@dataclass(frozen=True)
class StageEnded(Recorded):
    """A stage of surgery ended, with the share of its steps in which tasks' gradients were in conflict."""

    name = "stage"
    stage: int
    step: int
    conflict: float


RECORDED: dict[str, type[Recorded]] = {
    event.name: event for event in (Started, PassDescribed, MemoryShrunk, Stepped, Evaluated, StageEnded)
}
"""By the name that a line of the journal has."""


def from_json(line: Any) -> Recorded:
    """Return the event of a journal's line. Raises RunFolderError for an event, or a field of it, that there is not."""
    name = line.get("event") if isinstance(line, dict) else None
    if name not in RECORDED:
        near = nearest(name, RECORDED) if isinstance(name, str) else ""
        raise RunFolderError(f"{shown(name)} is not an event of a journal.{near} There are {listed(RECORDED)}.")
    try:
        return RECORDED[name].of_line({key: value for key, value in line.items() if key != "event"})
    except (TypeError, KeyError, AttributeError) as error:
        raise RunFolderError(f"An event '{name}' of a journal is damaged: {error}.") from error
