"""Events for the two pair tasks: who did what, to whom or what, and where; and events that differ in chosen parts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from .grammar import Split
from .lexicon import AGENTS, PLACES, SCENES, Concept, Scene

PARTS = ("agent", "action", "object", "place")


@dataclass(frozen=True)
class Event:
    """Concepts for the four parts of a sentence, and the scene that action and object belong to."""

    scene: Scene
    agent: Concept
    action: Concept
    object: Concept
    place: Concept

    def words(self, choose: Callable[[Concept], str]) -> dict[str, str]:
        """Return the word that ``choose`` picks for each part."""
        return {part: choose(getattr(self, part)) for part in PARTS}


def event(split: Split, scene: Scene, rng: random.Random) -> Event:
    """Return an event of one scene; nobody does anything to himself."""
    agent = rng.choice(AGENTS[split])
    return Event(
        scene, agent, rng.choice(scene.actions), _other(scene.objects, agent, rng=rng), rng.choice(PLACES[split])
    )


def changed(first: Event, parts: tuple[str, ...], split: Split, rng: random.Random) -> Event:
    """Return the event with other concepts for ``parts``. Two people trade places: the bag of words stays as it was."""
    scene = first.scene
    if {"action", "object"} <= set(parts):
        scene = rng.choice([option for option in SCENES[split] if option is not scene])
    elif {"agent", "object"} <= set(parts) and scene.objects is AGENTS[split]:
        swapped = replace(first, agent=first.object, object=first.agent)
        return changed(swapped, tuple(part for part in parts if part not in ("agent", "object")), split, rng)
    options = {"agent": AGENTS[split], "action": scene.actions, "object": scene.objects, "place": PLACES[split]}
    concepts = {part: getattr(first, part) for part in PARTS}
    for part in parts:
        concepts[part] = _other(options[part], *concepts.values(), rng=rng)
    return Event(scene, **concepts)


def _other(options: tuple[Concept, ...], *taken: Concept, rng: random.Random) -> Concept:
    return rng.choice([option for option in options if option not in taken])
