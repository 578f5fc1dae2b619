"""What README and docs show is what polytask takes."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from polytask.cli.main import app
from polytask.recipe.load import load_recipe
from polytask.recipe.toml import read_toml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    page.name: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
SHOWN = "\n".join(PAGES[name] for name in ("README.md", "recipe.md", "tables.md", "commands.md", "results.md"))
TECHNIQUES = (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
COURSE = ROOT / "src" / "polytask" / "recipes" / "cs224n.toml"


def blocks(language: str, text: str = SHOWN) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


@pytest.mark.parametrize("number", range(len(blocks("toml"))))
def test_every_recipe_is_one(number: int) -> None:
    tables: dict[str, Any] = tomllib.loads(blocks("toml")[number])
    if "encoder" not in tables:  # a part, to be put into a recipe of the three course tasks
        course = read_toml(COURSE)
        tables = {**course, **tables, "tasks": {**course["tasks"], **tables.get("tasks", {})}}
    load_recipe(tables)


@pytest.mark.parametrize("number", range(len(blocks("toml", TECHNIQUES))))
def test_every_technique_is_a_recipe_of_the_course_tasks(number: int) -> None:
    part, course = tomllib.loads(blocks("toml", TECHNIQUES)[number]), read_toml(COURSE)
    changed = part.get("tasks", {})
    tasks = {name: settings | changed.get(name, {}) for name, settings in course["tasks"].items()}
    assert changed.keys() <= tasks.keys()
    load_recipe({**course, **part, "tasks": tasks})


def test_every_command_is_one() -> None:
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    known = {name.replace("list_members", "list") for name in commands} | {"weights"}
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines() if "polytask" in line]
    used = [
        words[words.index("polytask") + 1]
        for line in lines
        if "polytask" in (words := shlex.split(line, comments=True))
    ]
    table = re.findall(r"^\| `polytask ([\w-]+)", SHOWN, re.M)
    assert len(used) > 5
    assert {*used, *table} <= known
    assert known <= {*used, *table, "schema", "weights"}


def test_the_readme_is_one_page() -> None:
    assert len(README.split()) <= 1300


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page])
    assert [link for link in links if not (folder / link).exists()] == []


def test_the_tree_is_the_houses() -> None:
    named = set(re.findall(r"^[├└]── ([\w.]+)", README, re.M))
    source = ROOT / "src" / "polytask"
    there = {
        path.name for path in source.iterdir() if not path.name.startswith(("__main__", "__pycache__", "py.typed"))
    }
    assert named == there
