"""polytask fine-tunes ONE BERT-type encoder on several sentence tasks at once, and puts the result to work.

The mental model: tables become tasks, a recipe says how they are trained, and a run folder is what comes of it.

    recipe.toml ──► train ──► run folder ──► load ──► predict

>>> import polytask
>>> run = polytask.train("recipe.toml", out="runs/first")                   # doctest: +SKIP
>>> polytask.load(run).predict("sentiment", ["A joy from start to end."])   # doctest: +SKIP

Beside these: the errors; the contracts of the open rooms, whose members ``room`` finds, as in
``room("aggregators").create("pcgrad")``; and the parts that a training loop of one's own is made of (docs/own-loop.md).
Names are imported when they are first used, so that ``import polytask`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.aggregators.base import Aggregator, GramianAggregator
    from polytask.balance.base import LossBalance
    from polytask.data.augment.base import Augmentation
    from polytask.data.mixing.base import Mixing
    from polytask.data.rows import TaskRows
    from polytask.data.tokens import Tokenizer
    from polytask.encoder.base import Encoder
    from polytask.errors import (
        CheckpointError,
        Interrupted,
        NonFiniteLoss,
        OutOfMemory,
        PolytaskError,
        RecipeError,
        RunFolderError,
        StorageError,
        TableError,
        Unavailable,
        UserError,
    )
    from polytask.heads.logits.base import Head
    from polytask.heads.pairs.base import PairFeature
    from polytask.heads.pooling.base import Pooling
    from polytask.heads.task import TaskHead
    from polytask.inference.predictor import Predictor, load
    from polytask.jobs.run import Run
    from polytask.jobs.train import resume, train
    from polytask.metrics.base import Metric
    from polytask.model import Model
    from polytask.recipe.rooms import room
    from polytask.registry import load_members
    from polytask.regularizers.base import Regularizer
    from polytask.tasks.kinds.base import Kind

__version__ = "0.1.0"

_PLACES = {
    "polytask.aggregators.base": ("Aggregator", "GramianAggregator"),
    "polytask.balance.base": ("LossBalance",),
    "polytask.data.augment.base": ("Augmentation",),
    "polytask.data.mixing.base": ("Mixing",),
    "polytask.data.rows": ("TaskRows",),
    "polytask.data.tokens": ("Tokenizer",),
    "polytask.encoder.base": ("Encoder",),
    "polytask.errors": (
        *("CheckpointError", "Interrupted", "NonFiniteLoss", "OutOfMemory", "PolytaskError", "RecipeError"),
        *("RunFolderError", "StorageError", "TableError", "Unavailable", "UserError"),
    ),
    "polytask.heads.logits.base": ("Head",),
    "polytask.heads.pairs.base": ("PairFeature",),
    "polytask.heads.pooling.base": ("Pooling",),
    "polytask.heads.task": ("TaskHead",),
    "polytask.inference.predictor": ("Predictor", "load"),
    "polytask.jobs.run": ("Run",),
    "polytask.jobs.train": ("resume", "train"),
    "polytask.metrics.base": ("Metric",),
    "polytask.model": ("Model",),
    "polytask.recipe.rooms": ("room",),
    "polytask.registry": ("load_members",),
    "polytask.regularizers.base": ("Regularizer",),
    "polytask.tasks.kinds.base": ("Kind",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Aggregator",
    "Augmentation",
    "CheckpointError",
    "Encoder",
    "GramianAggregator",
    "Head",
    "Interrupted",
    "Kind",
    "LossBalance",
    "Metric",
    "Mixing",
    "Model",
    "NonFiniteLoss",
    "OutOfMemory",
    "PairFeature",
    "PolytaskError",
    "Pooling",
    "Predictor",
    "RecipeError",
    "Regularizer",
    "Run",
    "RunFolderError",
    "StorageError",
    "TableError",
    "TaskHead",
    "TaskRows",
    "Tokenizer",
    "Unavailable",
    "UserError",
    "load",
    "load_members",
    "resume",
    "room",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'polytask' has no attribute '{name}'")
    return getattr(import_module(_PLACE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
