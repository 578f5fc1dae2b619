"""Imports show the direction: a room may import rooms of a lower rank only, never a neighbour.

Read off the source, so that lazy imports, those under ``TYPE_CHECKING`` and module names in strings count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
RANKS = {
    14: ("__main__",),
    13: ("cli",),
    12: ("",),  # polytask/__init__.py, the door
    11: ("starter",),
    10: ("jobs",),
    9: ("inference",),
    8: ("assembly",),
    7: ("recipe", "training"),
    6: ("evaluation", "regularizers"),
    5: ("model",),
    4: ("tasks",),
    3: ("encoder", "heads", "data", "balance", "aggregators", "metrics"),
    2: ("registry", "run"),
    1: ("runtime", "packing", "sentences"),
    0: ("errors",),
}
RANK_OF = {room: rank for rank, rooms in RANKS.items() for room in rooms}


def _module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_module_of(file): file for file in sorted((SOURCE / "polytask").rglob("*.py"))}


@dataclass(frozen=True)
class Import:
    line: int
    target: str
    """The module that is imported, as far as it is one of ours."""
    level: int = 0
    """Dots in front."""
    named: bool = False
    """Whether it is a module's name in a string, for ``import_module`` or a registry."""


def room_of(module: str) -> str:
    """Return the room that a module is in: the second part of its name."""
    return module.split(".")[1] if "." in module else ""


def imports_of(tree: ast.AST, module: str, is_package: bool) -> Iterator[Import]:
    """Yield every import of our own modules in a file, wherever it stands."""
    folder = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "polytask":
                    yield Import(node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(folder.split(".")[: len(folder.split(".")) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (parent, node.module) if part)
            if source.split(".")[0] == "polytask":
                for name in node.names:
                    inner = f"{source}.{name.name}"
                    yield Import(node.lineno, inner if inner in FILES else source, node.level)
        elif isinstance(node, ast.Constant) and node.value in FILES and node.value != "polytask":
            assert isinstance(node.value, str)
            yield Import(node.lineno, node.value, named=True)


def complaints(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return what is wrong with the imports of a file, in its order."""
    room, folder = room_of(module), module if is_package else module.rpartition(".")[0]
    found = []
    for entry in sorted(imports_of(ast.parse(source), module, is_package), key=lambda entry: entry.line):
        other = room_of(entry.target)
        if room not in RANK_OF:
            wrong = f"is imported in a room without a rank, '{room}'"
        elif entry.level > 1:
            wrong = "climbs with more than one dot"
        elif entry.level == 1 and (other != room or not room):
            wrong = "crosses rooms with a dot; write the absolute name"
        elif other not in RANK_OF:
            wrong = f"is of a room without a rank, '{other}'"
        elif other == room:
            beside = entry.target == folder or entry.target.rpartition(".")[0] == folder
            wrong = "lies beside this file; write it with a dot" if beside and not (entry.level or entry.named) else ""
        elif RANK_OF[other] > RANK_OF[room]:
            wrong = f"points up, from rank {RANK_OF[room]} to rank {RANK_OF[other]}"
        elif RANK_OF[other] == RANK_OF[room]:
            wrong = f"points to a neighbour of rank {RANK_OF[room]}"
        else:
            wrong = ""
        if wrong:
            found.append(f"{module}, line {entry.line}: '{entry.target}' {wrong}")
    return found


def circle_among(arrows: Mapping[str, set[str]]) -> list[str]:
    """Return the names of a circle, from one back to itself, or nothing."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(arrows.get(name, ())):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(arrows) if (found := walk(name, []))), [])


def calls_in(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call by the name it is written with, such as ``torch.load``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


def test_the_tree_is_where_it_is_looked_for() -> None:
    assert len(FILES) > 50
    assert {"polytask", "polytask.errors", "polytask.heads.pooling.base", "polytask.training.step"} <= FILES.keys()


@pytest.mark.parametrize("module", FILES)
def test_every_room_has_a_rank(module: str) -> None:
    assert room_of(module) in RANK_OF


@pytest.mark.parametrize("module", FILES)
def test_no_import_points_up_or_sideways(module: str) -> None:
    file = FILES[module]
    found = complaints(file.read_text(encoding="utf-8"), module, file.name == "__init__.py")
    assert not found, found[0]


def open_rooms() -> dict[str, str]:
    """Return the folder of each open room, with the room that it is in: where members are found by looking."""
    rooms: dict[str, str] = {}
    for module, file in FILES.items():
        for name, call in calls_in(ast.parse(file.read_text(encoding="utf-8"))):
            if name == "Registry":
                folder = next(arg.value for arg in call.args if isinstance(arg, ast.Constant) and arg.value in FILES)
                rooms[str(folder)] = module
    return rooms


def test_an_open_room_is_known_by_its_base_alone() -> None:
    """Whoever imports one member from outside asks which member it is; that, the contract in ``base`` answers."""
    rooms = open_rooms()
    assert {"polytask.heads.pooling", "polytask.tasks.kinds", "polytask.aggregators"} <= rooms.keys()
    found = []
    for module, file in FILES.items():
        for entry in imports_of(ast.parse(file.read_text(encoding="utf-8")), module, file.name == "__init__.py"):
            folder, _, member = entry.target.rpartition(".")
            inside = module == folder or module.startswith(f"{folder}.")
            single = folder in rooms and entry.target in FILES and not is_package(entry.target)
            if single and member not in ("base", *SHARED_BY_MEMBERS) and not inside:
                found.append(f"{module}, line {entry.line}: {entry.target}")
    assert not found, "\n".join(found)


SHARED_BY_MEMBERS: set[str] = set()
"""Modules of open rooms that hold no member and serve others, too."""


def is_package(module: str) -> bool:
    return FILES[module].name == "__init__.py"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even inside a room, lazily, or for types alone: what stands in a circle is one module in several files."""
    arrows = {
        module: {
            entry.target
            for entry in imports_of(ast.parse(file.read_text(encoding="utf-8")), module, file.name == "__init__.py")
            # A package imports its members by name; a member that imports its package's folder imports nothing of them.
            if not entry.named and entry.target != module
        }
        for module, file in FILES.items()
    }
    found = circle_among(arrows)
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    ("arrows", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
    ],
)
def test_a_circle_is_found(arrows: dict[str, set[str]], found: list[str]) -> None:
    assert circle_among(arrows) == found


def test_the_lazy_names_of_the_package_are_read_too() -> None:
    file = FILES["polytask"]
    targets = {entry.target for entry in imports_of(ast.parse(file.read_text(encoding="utf-8")), "polytask", True)}
    assert {"polytask.jobs.train", "polytask.inference.predictor", "polytask.errors"} <= targets


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("polytask.data.rows", "from polytask.tasks.task import Task", "points up, from rank 3 to rank 4"),
        ("polytask.data.rows", "import polytask.model", "points up"),
        ("polytask.data.rows", "from polytask import model", "points up"),
        ("polytask.data.rows", "from polytask.encoder.base import Encoder", "points to a neighbour of rank 3"),
        ("polytask.data.rows", "from polytask.data.tokens import Tokenizer", "write it with a dot"),
        ("polytask.data.rows", "from polytask.data import tokens", "write it with a dot"),
        ("polytask.heads.pooling.max", "from ..pairs.base import Merge", "more than one dot"),
        ("polytask.model", "from .packing import RowBatch", "crosses rooms with a dot"),
        ("polytask.model", "from . import errors", "crosses rooms with a dot"),
        ("polytask.model", "from polytask.kitchen import stove", "without a rank"),
        ("polytask.errors", "import polytask", "points up"),
        ("polytask.cli.main", "from polytask import __main__", "points up"),
        ("polytask.registry", "from polytask.run.index import Index", "neighbour"),
        (
            "polytask.training.step",
            "def f():\n    from polytask.jobs.train import train",
            "line 2: 'polytask.jobs.train'",
        ),
        ("polytask.training.step", "if TYPE_CHECKING:\n    from polytask.jobs.train import train", "points up"),
        ("polytask.training.step", "import_module('polytask.jobs.train')", "points up"),
    ],
)
def test_a_wrong_import_is_caught_in_every_dress(module: str, line: str, wrong: str) -> None:
    assert len(found := complaints(line, module)) == 1
    assert wrong in found[0]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("polytask.data.rows", "from .tokens import Tokenizer"),
        ("polytask.data.rows", "from . import tokens"),
        ("polytask.data.rows", "from polytask import packing"),
        ("polytask.data.rows", "from polytask.runtime.files import written_aside"),
        ("polytask.tasks.task", "from .kinds.base import Kind"),
        ("polytask.data.mixing.joint", "from polytask.data.batching import Cut"),
        ("polytask.heads.pooling.base", "poolings = Registry('poolings', 'polytask.heads.pooling')"),
        ("polytask.model", "import torch\nfrom dataclasses import field"),
    ],
)
def test_a_right_import_is_let_through(module: str, line: str) -> None:
    assert not complaints(line, module)


@pytest.mark.parametrize("module", [module for module in FILES if room_of(module) != "cli"])
def test_only_the_command_line_prints(module: str) -> None:
    lines = [
        call.lineno for name, call in calls_in(ast.parse(FILES[module].read_text(encoding="utf-8"))) if name == "print"
    ]
    assert not lines, f"{module} prints on lines {lines}"
