"""What a run folder's ``index.json`` refers to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from .scores import Scores

FORMAT = 5
"""Version of the run folder: its layout, and what its recipe means."""

SINCE = (
    "since 4 scores carry their rows, predictions their truth and loss, and an encoder's options are its architecture's; "
    "since 5 dev rows are held out for all tasks together"
)
"""What folders of earlier formats lack."""


class Waited(BaseModel):
    """What early stopping remembers of a stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    best: float | None = None
    """The best aggregate of the stage's own tasks within the stage."""
    evaluations: int = 0
    """Evaluations since then."""


class Index(BaseModel):
    """What a run folder's ``index.json`` refers to. A file that it does not name does not count."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    last: str | None = None
    """Name of the last weights and state, ``weights/<last>.safetensors``."""
    best: str | None = None
    """Name of the weights with the best aggregate on dev, each encoder (if there are several) at its own best."""
    best_of: dict[str, str] = {}
    """Name of the weights of each task's best, by the metric that judges it."""
    hashes: dict[str, str] = {}
    """SHA-256 of every file that is read again, by its path in the folder."""
    stage: int = 0
    step: int = 0
    """Steps of that stage that are done."""
    journal: int = 0
    """Length in bytes of the journal that belongs to the last checkpoint."""
    finished: bool = False
    best_aggregate: float | None = None
    best_values: dict[str, float] = {}
    """The best value of that metric so far."""
    owes_evaluation: bool = False
    """Whether the evaluation after the last step was cut short by a request to stop."""
    scores: dict[str, Scores] = {}
    """The last scores of each task."""
    best_scores: dict[str, Scores] = {}
    """The scores of ``best``, as far as its tasks were trained."""
    waited: Waited = Waited()

    def with_(self, **changes: object) -> Index:
        """Return the same index but for some of its values."""
        return self.model_copy(update=changes)

    @property
    def kept(self) -> set[str]:
        """Names of the weights that count."""
        return {name for name in (self.last, self.best, *self.best_of.values()) if name is not None}
