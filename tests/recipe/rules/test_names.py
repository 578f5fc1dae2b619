"""What a task may be called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from polytask.recipe.rules.names import name_rules
from polytask.recipe.settings import Recipe


def test_ordinary_names_pass(parsed: Callable[..., Recipe]) -> None:
    assert list(name_rules(parsed(Größe_1=None, **{"a-b": None}))) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a/b", "letters, digits"),
        ("../x", "letters, digits"),
        ("-x", "letters, digits"),
        ("x" * 101, "at most 100"),
        ("items", "means something to torch"),
        ("Sentiment", "only in case"),
    ],
)
def test_a_name_that_cannot_be(parsed: Callable[..., Recipe], name: str, told: str) -> None:
    ((place, sentence),) = name_rules(parsed(**{name: None}))
    assert place.startswith("tasks.")
    assert told in sentence
