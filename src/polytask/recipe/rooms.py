"""The open rooms, in one list. A new room is a folder, and a line here."""

from __future__ import annotations

from typing import Any

from polytask.aggregators.base import aggregators
from polytask.balance.base import balances
from polytask.data.augment.base import augmentations
from polytask.data.mixing.base import mixings
from polytask.encoder.base import encoders
from polytask.errors import UserError, listed, nearest
from polytask.evaluation.aggregates.base import aggregates
from polytask.evaluation.formats.base import formats
from polytask.heads.logits.base import heads
from polytask.heads.modes.base import pair_modes
from polytask.heads.pairs.base import pair_features
from polytask.heads.pooling.base import poolings
from polytask.metrics.base import metrics
from polytask.registry import Registry
from polytask.regularizers.base import regularizers
from polytask.tasks.kinds.base import kinds

ROOMS: tuple[Registry[Any], ...] = (
    encoders,
    kinds,
    poolings,
    pair_modes,
    pair_features,
    heads,
    augmentations,
    mixings,
    balances,
    aggregators,
    regularizers,
    metrics,
    aggregates,
    formats,
)
"""Their members are found, not listed."""

ROOM_CALLED = {registry.room: registry for registry in ROOMS}
"""By the name that ``InRoom`` and ``polytask list`` use."""


def room(name: str) -> Registry[Any]:
    """Return the registry of an open room: ``room("aggregators").create("pcgrad")``. Raises UserError with the near miss."""
    if name not in ROOM_CALLED:
        raise UserError(
            f"There is no room '{name}'.{nearest(name, ROOM_CALLED)} There are {listed(sorted(ROOM_CALLED))}."
        )
    return ROOM_CALLED[name]
