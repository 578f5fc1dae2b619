"""One tree of errors. Each message says what came, what was wanted, and what is near."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class PolytaskError(Exception):
    """Any failure that polytask foresees; its text is meant for the person, without a traceback."""

    exit_code = 1


class UserError(PolytaskError):
    """The recipe, a table or an argument is wrong."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe says something that cannot be built."""


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


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest of ``options``, or an empty string."""
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Return names as ``'a', 'b' and 'c'``, or ``none``."""
    quoted = [f"'{name}'" for name in names]
    if len(quoted) <= 1:
        return quoted[0] if quoted else "none"
    return ", ".join(quoted[:-1]) + " and " + quoted[-1]


def first_ten(problems: Sequence[str]) -> str:
    """Return the first ten problems, a line each, and how many there are in all."""
    lines = [f"  {problem}" for problem in problems[:10]]
    if len(problems) > 10:
        lines.append(f"  … and {len(problems) - 10} more")
    return "\n".join(lines)


def need_extra(package: str, extra: str, purpose: str) -> Unavailable:
    """Return the error for an optional package that is not installed."""
    return Unavailable(f"{purpose} needs the package '{package}'. Install it with: pip install 'polytask[{extra}]'")
