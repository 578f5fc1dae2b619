"""Errors of the library name settings and arguments; flags are the command line's own words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from polytask.cli.main import REMEDIES as FLAGS
from polytask.errors import REMEDIES

SOURCE = Path(__file__).parents[2] / "src" / "polytask"
FILES = {str(file.relative_to(SOURCE)): file for file in sorted(SOURCE.rglob("*.py"))}
COMMAND_LINES = {"jobs/verify.py", "encoder/foreign/fetch.py", "starter/quickstart.py"}
"""Files that start processes, or write down what to type next."""
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def flags_in(source: str) -> list[str]:
    """Return every flag in a text that is no docstring."""
    tree = ast.parse(source)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [flag for node in texts if id(node) not in bare for flag in FLAG.findall(str(node.value))]


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("cli/") and file not in COMMAND_LINES])
def test_only_the_command_line_speaks_of_flags(file: str) -> None:
    assert flags_in(FILES[file].read_text(encoding="utf-8")) == []


def test_a_flag_in_an_error_is_found() -> None:
    assert flags_in('raise ValueError(f"{path} is taken; give another --out.")') == ["--out"]
    assert not flags_in('"""See ``--out``."""')


def test_both_have_words_for_every_remedy() -> None:
    assert FLAGS.keys() == REMEDIES.keys()
    for key, text in REMEDIES.items():
        assert ("{name" in text) == ("{name" in FLAGS[key])


@pytest.mark.parametrize("file", FILES)
def test_no_remedy_is_unknown(file: str) -> None:
    calls = [
        node for node in ast.walk(ast.parse(FILES[file].read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    for call in calls:
        if ast.unparse(call.func) == "Remedy":
            assert ast.literal_eval(call.args[0]) in REMEDIES
