"""Names -> factories for the open rooms. A member is found because its file lies in the room's folder.

A member's keyword-only constructor arguments are its recipe options; positional ones are handed in by whoever builds it.

Members from outside polytask enter rooms as their own do, with ``@room.register("name")``. Installed packages name the
modules that hold them under the entry point group ``polytask.members``; a folder of files is named by whoever uses it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import math
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from polytask.errors import OptionError, RecipeError, Unavailable, UserError, listed, nearest, shown
from polytask.sentences import unlike

T = TypeVar("T")

GROUP = "polytask.members"
"""The entry point group by which installed packages name modules that hold members."""

OURS = "polytask"
"""The origin of polytask's own members."""


@dataclass(frozen=True)
class InRoom:
    """Marks a setting, or an option, that names a member of an open room: ``Annotated[Member, InRoom("poolings")]``."""

    room: str


class Registry(Generic[T]):
    """The members of one open room.

    ``room`` is what ``polytask list`` calls it, ``package`` the folder whose modules hold the members, ``called`` what
    these are called where the room's name is no plural, ``trial`` what is handed in where options are only tried.
    """

    def __init__(self, room: str, package: str, called: str | None = None, *, trial: tuple[Any, ...] = ()) -> None:
        self.room = room
        self.package = package
        self._called = called or room
        self.trial = trial
        self._members: dict[str, type[T]] = {}
        self._origins: dict[str, str] = {}
        self._found = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Enter a class under ``name``; used as a decorator."""

        def enter(member: type[T]) -> type[T]:
            if name in self._members and self._members[name] is not member:
                held = f"{self._members[name].__qualname__} of {self._origins[name]}"
                raise UserError(
                    f"Two of the {self._called} are called '{name}': {held}, and {member.__qualname__} of "
                    f"{_origin_of(member)}."
                )
            self._members[name] = member
            self._origins[name] = _origin_of(member)
            return member

        return enter

    def names(self) -> list[str]:
        """Return every member's name, sorted."""
        self._find()
        return sorted(self._members)

    def member(self, name: str) -> type[T]:
        """Return the class called ``name``. Raises RecipeError that names the near miss."""
        self._find()
        if name not in self._members:
            raise RecipeError(
                f"'{name}' is not one of the {self._called}.{nearest(name, self._members)} "
                f"There are {listed(self.names())}."
            )
        return self._members[name]

    def origin(self, name: str) -> str:
        """Return where a member comes from: "polytask", a package and its version, or a file and its content's hash."""
        self.member(name)
        return self._origins[name]

    def first_line(self, name: str) -> str:
        """Return the first line of a member's docstring."""
        return (inspect.getdoc(self.member(name)) or "").split("\n")[0]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Return a member's recipe options: its keyword-only constructor arguments."""
        signature = inspect.signature(self.member(name))
        return {key: p for key, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def check(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``options`` converted to their declared types. Raises OptionError for all that the member refuses."""
        known = self.options(name)
        hints = get_type_hints(self.member(name).__init__, include_extras=True)
        checked: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for key, value in options.items():
            if key not in known:
                near = nearest(key, known)
                wrong[key] = f"'{name}' of the {self.room} takes no option '{key}'.{near} It takes {listed(known)}."
                continue
            try:
                checked[key] = _convert(hints.get(key, Any), value)
            except ValueError as error:
                wrong[key] = f"option '{key}' of '{name}' {error}"
        missing = [key for key, p in known.items() if p.default is inspect.Parameter.empty and key not in options]
        if missing:
            wrong[missing[0]] = f"'{name}' of the {self.room} needs the option {listed(missing)}."
        if wrong:
            raise OptionError(wrong)
        return checked

    def create(self, name: str, *parts: Any, **options: Any) -> T:
        """Build the member ``name`` from the parts that its builder hands in and its recipe options."""
        checked = self.check(name, options)
        try:
            return self.member(name)(*parts, **checked)
        except ValueError as error:
            raise RecipeError(f"'{name}' of the {self.room}: {str(error).rstrip('.')}.") from error

    def tried(self, name: str, options: Mapping[str, Any], *parts: Any) -> T:
        """Build a member only to see whether it takes its options, which it checks itself; raises what ``create`` does."""
        return self.create(name, *(parts or self.trial), **options)

    def _find(self) -> None:
        if self._found:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._found = True
        _find_installed()


def _convert(annotation: Any, value: Any) -> Any:
    """Return a value in its declared type, as strictly as TOML: "3" and 3.0 are no whole numbers, a list is a tuple."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(
            f"is {shown(value)}; wanted a number, a text, true or false, or a list or table of these."
        ) from None
    try:
        converted = TypeAdapter(annotation).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(unlike(value, error.errors())) from error
    if isinstance(converted, float) and math.isnan(converted):
        raise ValueError("is nan; wanted a number.")
    return converted


_origin: list[str] = []
"""What is being imported from outside, if anything: whoever registers then comes from there."""

_outside: set[str] = set()
"""Installed modules and files whose members are in their rooms already."""


def load_members(folder: str | Path) -> None:
    """Import every ``.py`` file of a folder, so that the members which it registers can be chosen by name.

    Raises UserError when it is no such folder, or lies in a run folder (a run is data, whoever made it), and Unavailable
    when a file cannot be imported.
    """
    home = Path(folder).expanduser().resolve()
    files = sorted(home.glob("*.py")) if home.is_dir() else []
    if not files:
        raise UserError(f"{folder} is not a folder of members: it holds no .py file.")
    for above in (home, *home.parents):
        if (above / "index.json").is_file() and (above / "recipe.toml").is_file():
            raise UserError(f"{folder} lies in the run folder {above}, from which nothing is ever imported.")
    for file in files:
        key = f"{file} ({hashlib.sha256(file.read_bytes()).hexdigest()[:12]})"
        if key in _outside:
            continue
        name = f"polytask_members_{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and type hints look their module up
        with _from_outside(key):
            spec.loader.exec_module(module)


def _find_installed() -> None:
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.value, point.name)):
        if point.value not in _outside:
            package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            with _from_outside(package, point.value):
                point.load()


@contextmanager
def _from_outside(origin: str, key: str | None = None) -> Iterator[None]:
    _outside.add(key or origin)  # before: what is imported may ask a room for its members
    _origin.append(origin)
    try:
        yield
    except UserError:
        _outside.discard(key or origin)
        raise
    except Exception as error:  # whatever a stranger's module raises when it is imported
        _outside.discard(key or origin)
        first = (str(error).splitlines() or [""])[0]
        raise Unavailable(f"The members of {origin} cannot be imported: {type(error).__name__}: {first}") from error
    finally:
        _origin.pop()


def _origin_of(member: type) -> str:
    if member.__module__.split(".")[0] == "polytask":
        return OURS
    return _origin[-1] if _origin else f"the module {member.__module__}"
