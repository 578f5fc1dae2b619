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
TECHNIQUES = (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
COURSE = ROOT / "src" / "polytask" / "recipes" / "cs224n.toml"


def blocks(language: str, text: str = README) -> list[str]:
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
    table = re.findall(r"^\| `polytask ([\w-]+)", README, re.M)
    assert len(used) > 5
    assert {*used, *table} <= known
    assert known <= {*used, *table, "schema", "weights"}
