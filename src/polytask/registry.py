"""Names -> factories for the open rooms. A member is found because its file lies in the room's folder.

A member's keyword-only constructor arguments are its recipe options; positional ones are handed in by whoever builds it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from polytask.errors import OptionError, RecipeError, listed, nearest, shown
from polytask.sentences import unlike

T = TypeVar("T")


class Registry(Generic[T]):
    """The members of one open room.

    ``room`` is what ``polytask list`` calls it, ``package`` the folder whose modules hold the members, ``called`` what
    these are called where the room's name is no plural.
    """

    def __init__(self, room: str, package: str, called: str | None = None) -> None:
        self.room = room
        self.package = package
        self._called = called or room
        self._members: dict[str, type[T]] = {}
        self._found = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Enter a class under ``name``; used as a decorator."""

        def enter(member: type[T]) -> type[T]:
            if name in self._members and self._members[name] is not member:
                raise ValueError(f"two {self.room} are called '{name}': {self._members[name]} and {member}")
            self._members[name] = member
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
        hints = get_type_hints(self.member(name).__init__)
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

    def _find(self) -> None:
        if self._found:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._found = True


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
