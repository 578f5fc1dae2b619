"""What there is to choose from: the members of every open room, presets and bundled recipes."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from polytask.aggregators.base import aggregators
from polytask.balance.base import balances
from polytask.data.augment.base import augmentations
from polytask.data.mixing.base import mixings
from polytask.errors import UserError, listed, nearest
from polytask.heads.heads.base import heads
from polytask.heads.pairs.base import pair_features
from polytask.heads.pooling.base import poolings
from polytask.registry import Registry
from polytask.regularizers.base import regularizers
from polytask.tasks.kinds.base import kinds
from polytask.tasks.presets import preset_names, preset_summary

from .load import bundled

ROOMS: tuple[Registry[Any], ...] = (
    kinds,
    poolings,
    pair_features,
    heads,
    augmentations,
    mixings,
    balances,
    aggregators,
    regularizers,
)
"""The open rooms; their members are found, not listed."""


def catalogue(room: str | None = None) -> dict[str, dict[str, str]]:
    """Return each room's members with the first line on each, or only those of ``room``. Raises UserError."""
    rooms = {registry.room: {name: registry.summary(name) for name in registry.names()} for registry in ROOMS}
    rooms["presets"] = {name: preset_summary(name) for name in preset_names()}
    rooms["recipes"] = {name: _recipe_summary(name) for name in bundled()}
    if room is None:
        return rooms
    wanted = room.replace("-", " ").replace("_", " ").lower()
    for name, found in rooms.items():
        if wanted in (name, name.rstrip("s"), name.partition(" ")[0], name.partition(" ")[0] + "s"):
            return {name: found}
    raise UserError(f"There is no room '{room}'.{nearest(wanted, rooms)} There are {listed(sorted(rooms))}.")


def _recipe_summary(name: str) -> str:
    text = (files("polytask") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    return text.split("\n")[0].removeprefix("# ")
