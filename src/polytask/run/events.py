"""What happens in a run."""

from __future__ import annotations

from dataclasses import dataclass, field


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
