"""All that is wrong with a recipe, told at once."""

from __future__ import annotations

from collections.abc import Iterable

from polytask.recipe.reading import Problem, invalid
from polytask.recipe.settings import Recipe

from .encoder import encoder_rules, fit_rules
from .members import try_members
from .stage import stage_rules
from .task import task_rules


class Problems:
    """Collects what is wrong, by place, so that all of it is told at once. ``known`` is what reading it found."""

    def __init__(self, known: Iterable[Problem] = ()) -> None:
        self.found: list[Problem] = list(known)
        self._read = [place for place, _ in self.found]

    def add(self, place: str, sentence: str) -> None:
        """Note a problem, unless that very place could not be read."""
        if (place, sentence) not in self.found and not any(_overlap(place, other) for other in self._read):
            self.found.append((place, sentence))

    def add_all(self, found: Iterable[Problem]) -> None:
        """Note problems that rules yield."""
        for place, sentence in found:
            self.add(place, sentence)

    def raise_all(self, source: str = "The recipe") -> None:
        """Raise RecipeError when something was wrong."""
        if self.found:
            raise invalid(source, [f"{place}: {sentence}" for place, sentence in self.found])


def _overlap(place: str, unread: str) -> bool:
    member = place.count(".") > 1 and unread.startswith(f"{place}.")
    return place == unread or place.startswith(f"{unread}.") or member


def examine(recipe: Recipe, known: Iterable[Problem] = ()) -> Problems:
    """Return everything that is wrong with a recipe and can be told without reading anything, after what is known."""
    problems = Problems(known)
    problems.add_all(encoder_rules(recipe))
    made, refused = try_members(recipe)
    problems.add_all(refused)
    problems.add_all(task_rules(recipe, made))
    problems.add_all(stage_rules(recipe, made))
    if recipe.encoder.checkpoint is None and "encoder" in made and (outline := made["encoder"].outline(None)):
        problems.add_all(fit_rules(recipe, outline))
    return problems
