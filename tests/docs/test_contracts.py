"""Every contract has a page, written from the code, and the index leads to it; no block of code stands untested."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from polytask.recipe.rooms import ROOMS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN: dict[str, Any] = runpy.run_path(str(DOCS / "contracts.py"))
TESTED = {
    "README.md": {"sh", "toml", "python"},  # tests/house/test_readme.py, tests/test_door.py
    "recipe.md": {"toml"},
    "tables.md": {"toml"},
    "results.md": {"sh"},
    "techniques.md": {"toml"},
    "own-loop.md": {"python"},  # tests/docs/test_own_loop.py
    "extending.md": {"python", "ini"},  # tests/docs/test_extending.py
}
"""Blocks of pages written by hand, by the language that a test runs or reads."""


@pytest.mark.parametrize("registry", WRITTEN["PAGES"], ids=lambda registry: registry.room)
def test_a_page_is_what_the_code_says(registry: Any) -> None:
    page = WRITTEN["place"](registry)
    assert page.read_text(encoding="utf-8") == WRITTEN["page"](registry), "run: python docs/contracts.py"
    assert f"(extending/{page.name})" in (DOCS / "extending.md").read_text(encoding="utf-8")
    assert "## The contract" in page.read_text(encoding="utf-8")


def test_every_room_has_one() -> None:
    assert {registry.room for registry in ROOMS} < {registry.room for registry in WRITTEN["PAGES"]}
    assert {page.name for page in (DOCS / "extending").iterdir()} == {
        WRITTEN["place"](one).name for one in WRITTEN["PAGES"]
    }


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_every_block_is_tested_or_generated(page: Path) -> None:
    languages = set(re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    if page.name != "reference.md":  # generated, and tested as such
        assert languages <= TESTED.get(page.name, set())
