"""polytask fine-tunes ONE BERT-type encoder on several sentence tasks at once, and puts the result to work.

The mental model: tables become tasks, a recipe says how they are trained, and a run folder is what comes of it.

    recipe.toml ──► train ──► run folder ──► load ──► predict

>>> import polytask
>>> run = polytask.train("recipe.toml", out="runs/first")                   # doctest: +SKIP
>>> polytask.load(run).predict("sentiment", ["A joy from start to end."])   # doctest: +SKIP

Names are imported when they are first used, so that ``import polytask`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.errors import PolytaskError
    from polytask.inference.predictor import Predictor, load
    from polytask.jobs.train import resume, train

__version__ = "0.1.0"

_PLACES = {
    "PolytaskError": "polytask.errors",
    "Predictor": "polytask.inference.predictor",
    "load": "polytask.inference.predictor",
    "resume": "polytask.jobs.train",
    "train": "polytask.jobs.train",
}

__all__ = ["PolytaskError", "Predictor", "load", "resume", "train"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'polytask' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
