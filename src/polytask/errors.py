"""One tree of errors. Each message says what came, what was wanted, and what is near.

PolytaskError                  exit code 1
├── UserError                  2: the recipe, a table or an argument is wrong
│   ├── RecipeError
│   │   └── OptionError        options that a member does not take
│   ├── TableError
│   ├── CheckpointError
│   └── RunFolderError
├── StorageError
├── Unavailable
├── NonFiniteLoss
├── OutOfMemory
└── Interrupted                130
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """What would help: a key of ``REMEDIES``, and the name that its sentence speaks of.

    The library words it in arguments, the command line in its own flags and commands.
    """

    key: str
    name: str = ""


REMEDIES = {
    "out": "Give another 'out'.",
    "resume or out": "Give another 'out', or resume that run.",
    "members": "Install that package, or name the folder with 'members'.",
    "elsewhere": "Go on all the same with elsewhere=True.",
    "resume": "Go on with polytask.resume({name!r}).",
    "room": "Make room, then go on with polytask.resume({name!r}).",
}
"""How a Python caller is told."""


class PolytaskError(Exception):
    """Any failure that polytask foresees; its text is meant for the person, without a traceback."""

    exit_code = 1

    def __init__(self, message: str, remedy: Remedy | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.worded(REMEDIES)

    def worded(self, remedies: Mapping[str, str]) -> str:
        """Return the message with its remedy in somebody's words."""
        if self.remedy is None:
            return self.message
        return f"{self.message} {remedies[self.remedy.key].format(name=self.remedy.name)}"


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


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 80, 80, 40


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
