from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from polytask.heads.pairs.base import Merge, pair_features
from polytask.registry import InRoom

from .base import PairMode, pair_modes

Feature = str | dict[str, Any]
"""A name, or ``{ name = …, option = … }``."""


@pair_modes.register("bi")
class Bi(PairMode):
    """Each text encoded apart; ``features`` of the two vectors, side by side, are what the head sees.

    ``dropout`` acts on each text's vector before they are merged (Irgau & Lalgudi, CS224N report).
    """

    reads = "bi"

    def __init__(
        self,
        *,
        features: Annotated[list[Feature], InRoom("pair features")] = ["u", "v", "abs_difference"],  # noqa: B006 - a recipe's default, never changed
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        if not features:
            raise ValueError("'features' is empty; the head would see nothing of the texts")
        for feature in features:
            if isinstance(feature, dict) and not isinstance(feature.get("name"), str):
                raise ValueError(f"'features' has {feature!r}; a pair feature is a name, or {{ name = …, option = … }}")
        self.dropout = dropout
        self._features = [dict(f) if isinstance(f, dict) else {"name": f} for f in features]

    def merge(self, width: int) -> Merge:
        return Merge([_feature(width, **feature) for feature in self._features])

    def features(self) -> tuple[str, ...]:
        return tuple(feature["name"] for feature in self._features)


def _feature(width: int, name: str, **options: Any) -> Any:
    return pair_features.create(name, width, **options)
