"""Writes a page for each contract, extending/ROOM.md: what a member promises, and a whole one, from the code itself.

python docs/contracts.py
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polytask.encoder.foreign.namings.base import namings
from polytask.recipe.rooms import ROOMS
from polytask.registry import Registry

FOLDER = Path(__file__).with_name("extending")
SOURCE = Path(__file__).resolve().parents[1] / "src"
PAGES: tuple[Registry[Any], ...] = (*ROOMS, namings)


def place(registry: Registry[Any]) -> Path:
    """Return where the page of a room stands."""
    return FOLDER / f"{registry.room.replace(' ', '-')}.md"


def page(registry: Registry[Any]) -> str:
    """Return the page of a room."""
    members = {name: registry.member(name) for name in registry.names()}
    first = next(iter(members.values()))
    folder = file_of(first).parent.relative_to(SOURCE)
    how = (
        f"A member is a file in `{folder}/` (or [one of your own](../extending.md#members-from-outside)) with a class under "
        f'`@{variable(registry)}.register("name")`. What its constructor takes by keyword are its options in a recipe; its '
        "docstring's first line is what `polytask list` shows.\n"
    )
    parts = [
        f"# {registry.room.capitalize()}\n",
        how,
        f"There are {', '.join(f'`{name}`' for name in members)}: [their options](../reference.md#{anchor(registry)}).\n"
        if registry in ROOMS
        else f"There are {', '.join(f'`{name}`' for name in members)}.\n",
        "## The contract\n",
    ]
    for contract in contracts(list(members.values())):
        parts += contract_lines(contract)
    name, member = min(members.items(), key=lambda item: (len(source(item[1]).splitlines()) < 8, len(source(item[1]))))
    parts.append(f"## A whole member\n\n`{name}`, all of `{file_of(member).relative_to(SOURCE)}`:\n")
    parts.append(f"```python\n{source(member)}```\n")
    return "\n".join(parts).rstrip() + "\n"


def contracts(members: list[type]) -> list[type]:
    """Return the classes that members derive from, out of polytask's `base` files, the most general first."""
    found = dict.fromkeys(
        base for member in members for base in reversed(member.__mro__) if base.__module__.rpartition(".")[2] == "base"
    )
    used = [base for base in found if base.__module__ == _most_general(members).__module__]
    return used if used else list(found)


def _most_general(members: list[type]) -> type:
    own = [base for base in members[0].__mro__ if base.__module__.rpartition(".")[2] == "base"]
    return next(base for base in own if all(issubclass(member, base) for member in members))


def contract_lines(contract: type) -> Iterator[str]:
    """Yield the lines on one class."""
    above = [base.__name__ for base in contract.__bases__ if base.__module__.startswith("polytask")]
    of = f" (a `{'`, a `'.join(above)}`)" if above else ""
    yield f"### `{contract.__name__}`{of}\n\n```text\n{inspect.getdoc(contract)}\n```\n"
    declared = {
        name: str(note).replace("ClassVar[", "").rstrip("]") if "ClassVar" in str(note) else str(note)
        for name, note in inspect.get_annotations(contract).items()
        if not name.startswith("_")
    }
    for name, note in declared.items():
        value = f" = {shown(vars(contract)[name])}" if name in vars(contract) else ""
        yield f"- `{name}: {note}{value}`"
    if declared:
        yield ""
    for name, method in vars(contract).items():
        if name.startswith("_") and name != "__call__":
            continue
        function = method.__func__ if isinstance(method, classmethod | staticmethod) else method
        function = function.fget if isinstance(function, property) else function
        if inspect.isfunction(function):
            need = "to be written" if getattr(function, "__isabstractmethod__", False) else "has a default"
            told = inspect.getdoc(function) or inspect.getdoc(getattr(contract, name)) or ""
            yield f"**`{name}`** ({need})\n\n```text\n{name}{signature(function)}\n\n{told}".rstrip() + "\n```\n"


def signature(function: Any) -> str:
    """Return a signature without what every method has."""
    return str(inspect.signature(function)).replace("(self, ", "(").replace("(self)", "()").replace("'", "")


def shown(value: object) -> str:
    """Return a default, sets in order."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(value)})" if value else "frozenset()"
    return repr(value)


def variable(registry: Registry[Any]) -> str:
    """Return what a registry is called in the code."""
    module = sys.modules[_most_general([registry.member(name) for name in registry.names()]).__module__]
    return next(name for name, value in vars(module).items() if value is registry)


def anchor(registry: Registry[Any]) -> str:
    """Return the anchor of a room in the reference."""
    return registry.room.replace(" ", "-")


def file_of(member: type) -> Path:
    """Return the file that a member stands in."""
    return Path(inspect.getfile(member)).resolve()


def source(member: type) -> str:
    """Return the whole file of a member."""
    return file_of(member).read_text(encoding="utf-8")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in PAGES:
        place(one).write_text(page(one), encoding="utf-8")
