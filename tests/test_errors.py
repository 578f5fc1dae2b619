"""Errors are small lessons: near misses, readable lists, exit codes."""

from __future__ import annotations

import pytest

from polytask import errors
from polytask.errors import PolytaskError, UserError, first_ten, listed, nearest, need_extra


def test_a_near_miss_is_named() -> None:
    assert nearest("learnign_rate", ["epochs", "learning_rate", "learning"]) == " Did you mean 'learning_rate'?"


def test_a_near_miss_may_differ_in_capitals() -> None:
    assert nearest("PCGrad", ["mgda", "pcgrad"]) == " Did you mean 'pcgrad'?"
    assert nearest("nash-mtl", ["Nash_MTL", "mgda"]) == " Did you mean 'Nash_MTL'?"


def test_nothing_is_guessed_when_nothing_is_near() -> None:
    assert nearest("colour", ["epochs", "steps"]) == ""
    assert nearest("colour", []) == ""


@pytest.mark.parametrize(
    ("names", "wanted"),
    [([], "none"), (["a"], "'a'"), (["a", "b"], "'a' and 'b'"), (["a", "b", "c"], "'a', 'b' and 'c'")],
)
def test_names_are_listed_as_a_person_would(names: list[str], wanted: str) -> None:
    assert listed(names) == wanted
    assert listed(iter(names)) == wanted


def test_ten_problems_are_told_whole() -> None:
    assert first_ten([str(n) for n in range(10)]).split("\n") == [f"  {n}" for n in range(10)]


def test_of_more_problems_the_rest_is_counted() -> None:
    lines = first_ten([str(n) for n in range(13)]).split("\n")
    assert lines[:10] == [f"  {n}" for n in range(10)]
    assert lines[10:] == ["  … and 3 more"]


def test_a_missing_package_says_how_to_get_it() -> None:
    error = need_extra("pyarrow", "data", "Reading Parquet")
    assert str(error) == ("Reading Parquet needs the package 'pyarrow'. Install it with: pip install 'polytask[data]'")
    assert error.exit_code == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("RecipeError", 2),
        ("TableError", 2),
        ("CheckpointError", 2),
        ("RunFolderError", 2),
        ("Unavailable", 1),
        ("NonFiniteLoss", 1),
        ("Interrupted", 130),
    ],
)
def test_what_the_person_gave_wrong_exits_with_2_and_what_failed_with_1(name: str, code: int) -> None:
    error = getattr(errors, name)
    assert issubclass(error, PolytaskError)
    assert error.exit_code == code
    assert issubclass(error, UserError) == (code == 2)
