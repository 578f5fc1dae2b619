"""How a table is laid out, where its name alone does not say so: what a person may give, and what is found otherwise."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from polytask.errors import TableError, listed

QUOTES = ('"', "'", "none")


@dataclass(frozen=True)
class Layout:
    """What a person says of a table; None leaves it to be found.

    ``format``: "csv", "tsv", "jsonl", …, in place of the file's suffix. ``delimiter``: one character between two fields.
    ``quote``: the character around a field, or "none" where a quote is a letter like others. ``encoding``: Python's name
    of it; UTF-8 when not given, or UTF-16 and UTF-32 with a byte-order mark. ``header``: whether the first line names the
    columns; ``columns``: their names where it does not, or instead of those. ``missing``: cells that stand for no value, beside
    the empty ones. ``decimal``: what separates the decimals of a label that is a number.

    Raises TableError for what contradicts itself or cannot be.
    """

    format: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    encoding: str | None = None
    header: bool | None = None
    columns: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    decimal: str = "."

    def __post_init__(self) -> None:
        for option, sentence in problems_of(vars(self)):
            raise TableError(f"The layout's '{option}' {sentence}")

    def given(self) -> list[str]:
        """Return the names of the options that a person gave."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]

    def only(self, table: str, *taken: str) -> None:
        """Raise TableError when an option is given that does nothing for such a table."""
        idle = [name for name in self.given() if name not in (*taken, "format", "missing", "decimal")]
        if idle:
            raise TableError(f"{table} takes no {listed(idle)}: {_what(idle)} of text files with columns.")


def problems_of(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with the options of a layout, by option."""
    delimiter, encoding, columns = (options[name] for name in ("delimiter", "encoding", "columns"))
    found: list[tuple[str, str]] = []
    if delimiter is not None and (len(delimiter) != 1 or delimiter in "\r\n\"'"):
        found.append(("delimiter", f"is {delimiter!r}; wanted one character, such as ';' or '\\t'."))
    if encoding is not None and not _known(encoding):
        found.append(("encoding", f"is {encoding!r}, which is no encoding of text that Python knows; try 'cp1252'."))
    if columns is not None and len(set(columns)) < len(columns):
        found.append(("columns", "names a column twice."))
    if options["header"] is False and columns is None:
        found.append(("header", 'is false: name the columns as well, columns = ["text", "label"].'))
    return found


def _known(encoding: str) -> bool:
    try:
        return bool(codecs.lookup(encoding)._is_text_encoding)
    except (LookupError, ValueError):
        return False


def _what(names: Collection[str]) -> str:
    return "that is" if len(names) == 1 else "those are"
