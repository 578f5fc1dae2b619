"""The door: what ``import polytask`` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import polytask


@pytest.mark.parametrize("name", polytask.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(polytask, name) is not None
    assert name in dir(polytask)


def test_the_list_is_that_of_the_places() -> None:
    assert sorted(polytask._PLACE_OF) == polytask.__all__
    assert len(set(polytask.__all__)) == len(polytask.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'polytask' has no attribute 'trian'"):
        _ = polytask.trian


def test_importing_it_costs_nothing() -> None:
    code = (
        "import sys, polytask; print([m for m in sys.modules if m.startswith('polytask.') or m in ('torch', 'numpy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
