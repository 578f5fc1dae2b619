"""Whether the parts of a task fit together: what one gives, the next must take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.errors import RecipeError, listed
from polytask.heads.logits.base import Head, heads
from polytask.tasks.kinds.base import Kind


def check_head(name: str, head: type[Head], kind: Kind, features: Sequence[Any] | None) -> None:
    """Check a head against what its kind takes and against the pair features that it is given (None: no bi-encoder).

    A cosine goes into an output made for cosines, and nothing else does: 5·x of an unbounded logit would only be a raw
    output by another name, and a raw score that cannot leave [−1, 1] would miss most ranges.
    """
    if head.gives != kind.reads:
        fitting = [other for other in heads.names() if heads.member(other).gives == kind.reads]
        raise RecipeError(
            f"'{name}' gives {_spoken(head.gives)}, and the task's kind as set here takes {_spoken(kind.reads)}: "
            f"use {listed(fitting)}{kind.instead()}."
        )
    given = None if features is None else tuple(f if isinstance(f, str) else f["name"] for f in features)
    if head.features is not None and given != head.features:
        has = "one vector for both texts (or only one text)" if given is None else listed(given)
        wanted = ", ".join(f'"{feature}"' for feature in head.features)
        raise RecipeError(
            f"'{name}' reads the pair feature {listed(head.features)} and nothing else; here it would read {has}. "
            f'Use pair = {{ name = "bi", features = [{wanted}] }}.'
        )


def _spoken(what: str) -> str:
    return "a cosine" if what == "cosine" else what
