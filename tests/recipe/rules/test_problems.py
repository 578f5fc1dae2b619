"""Problems are collected, each once, and what could not be read is not told again."""

from __future__ import annotations

import pytest

from polytask.errors import RecipeError
from polytask.recipe.rules.problems import Problems


def test_the_same_is_told_once_and_beside_each_other_twice() -> None:
    problems = Problems()
    problems.add_all([("encoder.a", "there is no such key."), ("encoder.b", "there is no such key.")] * 2)
    assert problems.found == [("encoder.a", "there is no such key."), ("encoder.b", "there is no such key.")]


def test_what_could_not_be_read_is_not_judged() -> None:
    problems = Problems([("tasks.a.head", "is 3; wanted a text.")])
    problems.add("tasks.a.head", "another")
    problems.add("tasks.a.head.layers", "another")
    problems.add("tasks.a", "of the whole task")
    assert [place for place, _ in problems.found] == ["tasks.a.head", "tasks.a"]


def test_nothing_wrong_raises_nothing() -> None:
    Problems().raise_all()
    with pytest.raises(RecipeError, match=r"my\.toml is not a valid recipe:\n  seed: is wrong\."):
        Problems([("seed", "is wrong.")]).raise_all("my.toml")
