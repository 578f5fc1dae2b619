"""One tree of errors. Each message says what came, what was wanted, and what is near."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class PolytaskError(Exception):
    """Any failure that polytask foresees; its text is meant for the person, without a traceback."""

    exit_code = 1


class UserError(PolytaskError):
    """The recipe, a table or an argument is wrong."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe says something that cannot be built."""


class OptionError(RecipeError):
    """Options that a member of an open room does not take, or not like this: a sentence for each option."""

    def __init__(self, sentences: Mapping[str, str]) -> None:
        super().__init__("\n".join(sentences.values()))
        self.sentences = dict(sentences)


class TableError(UserError):
    """A table cannot be read, or rows in it are broken."""


class CheckpointError(UserError):
    """Pretrained weights are missing, damaged, or of another architecture."""


class RunFolderError(UserError):
    """A run folder is missing, taken, altered, or not a run folder."""


class StorageError(PolytaskError):
    """A disk is full, or fails."""


class Unavailable(PolytaskError):
    """Something asked for cannot be had here: an optional package, a download, a device."""


class NonFiniteLoss(PolytaskError):
    """Training met a loss or a gradient that is not a finite number."""


class OutOfMemory(PolytaskError):
    """Not even a single row fits into memory."""


class Interrupted(PolytaskError):
    """Training was asked to stop, and wrote a checkpoint first."""

    exit_code = 130


_LONGEST = 80
"""Characters of a name or a cell that an error shows."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest of ``options``, or an empty string. Capitals do not count."""
    folded = {option[:_LONGEST].casefold(): option[:_LONGEST] for option in options}
    close = difflib.get_close_matches(name[:_LONGEST].casefold(), folded, n=1, cutoff=0.6)
    return f" Did you mean {quoted(folded[close[0]])}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Return names as ``'a', 'b' and 'c'``, or ``none``."""
    shown = [quoted(name) for name in names]
    if len(shown) <= 1:
        return shown[0] if shown else "none"
    return ", ".join(shown[:-1]) + " and " + shown[-1]


def shown(value: object) -> str:
    """Return a value as a recipe would spell it, shortened where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    return _SHORT.repr(value)


def wanted(problem: Mapping[str, Any]) -> str:
    """Return what one of pydantic's problems says was wanted, such as "a whole number"."""
    kind, bounds = str(problem["type"]), problem.get("ctx", {})
    if bounds.get("class_name") in _NAMEABLE:
        return "a name or a table"
    if kind in _WANTED:
        return _WANTED[kind]
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {bounds[key]:g}"
    if kind == "literal_error":
        return str(bounds["expected"])
    if kind == "too_short":
        return f"{bounds['min_length']} or more of them"
    if kind == "too_long":
        return f"{bounds['max_length']} of them"
    return str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def unlike(value: object, problems: Iterable[Mapping[str, Any]]) -> str:
    """Return "is 3; wanted a text or a table." for a value that pydantic refused, with the near miss of a choice."""
    found = list(problems)
    # A number out of range is no table either, but that is not what is wrong with it.
    found = [problem for problem in found if problem["type"] in _BOUNDS] or found
    alternatives = list(dict.fromkeys(wanted(problem) for problem in found))
    choices = [name for text in alternatives for name in re.findall("'([^']*)'", text)]
    near = nearest(value, choices) if isinstance(value, str) else ""
    numbers = isinstance(value, int | float) and not isinstance(value, bool)
    hint = f' Write it as "{value}".' if numbers and alternatives == ["a text"] else ""
    wish = " or ".join(part for part in (", ".join(alternatives[:-1]), alternatives[-1]) if part)
    return f"is {shown(value)}; wanted {wish}.{near}{hint}"


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 80, 80, 40

_WANTED = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "dataclass_type"), "a table"),
    "string_type": "a text",
    "finite_number": "a finite number",
    "none_required": "nothing at all",
}
_NAMEABLE = ("Member", "ScheduleSettings", "OptimizerSettings", "RegularizerSettings")
_BOUNDS = {
    "greater_than": ("a number above", "gt"),
    "greater_than_equal": ("a number of at least", "ge"),
    "less_than": ("a number below", "lt"),
    "less_than_equal": ("a number of at most", "le"),
}


def one_line(text: str) -> str:
    """Return a text in which nothing breaks the line or steers a terminal: names may come from a stranger's file."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def quoted(text: str) -> str:
    """Return a text of somebody else's as ``'text'``: on one line, not too long, nothing that steers a terminal."""
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    safe = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cut)
    return f"'{safe}'"


def first_ten(problems: Sequence[str], count: int | None = None) -> str:
    """Return the first ten of ``count`` problems (of all that are given), a line each, and how many more there are."""
    count = len(problems) if count is None else count
    lines = [f"  {problem}" for problem in problems[:10]]
    if count > 10:
        lines.append(f"  … and {count - 10} more")
    return "\n".join(lines)


def need_extra(package: str, extra: str, purpose: str) -> Unavailable:
    """Return the error for an optional package that is not installed."""
    return Unavailable(f"{purpose} needs the package '{package}'. Install it with: pip install 'polytask[{extra}]'")
