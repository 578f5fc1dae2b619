"""The page on the library names whatever the door hands out, where it stands; the site's pages are all in its list."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import polytask
from polytask.recipe.rooms import ROOMS
from polytask.recipe.settings import EncoderSettings, Recipe, StageSettings, TaskSettings

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_has_every_name_of_the_door() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    places = {name: getattr(polytask, name).__module__ for name in polytask.__all__}
    assert sorted(re.findall(r"^::: (.+)$", page, re.MULTILINE)) == sorted(f"{p}.{name}" for name, p in places.items())


def test_every_page_is_in_the_site() -> None:
    listed = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = (page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))
    assert sorted(listed) == sorted(pages)


def test_the_reference_is_what_the_code_says() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    assert written["PAGE"].read_text(encoding="utf-8") == written["page"](), "run: python docs/reference.py"


def test_the_reference_has_every_key_and_member() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    keys = {key for table in (Recipe, TaskSettings, StageSettings, EncoderSettings) for key in table.model_fields}
    members = {name for registry in ROOMS for name in registry.names()}
    assert keys | members <= set(re.findall(r"`(\w+)`", page))
