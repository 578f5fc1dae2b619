"""What separates the fields of a text file and what stands around them, found from many of its lines.

The suffix is not enough: semicolons are common in .csv, and corpora write .tsv without any quoting, so that a quote is a
letter (GLUE, MSR). The rule, in the order in which it is asked:

1. The delimiter is the one that gives most lines the header's number of fields.
2. Between tabs a quote is a letter, unless each field that has one is wholly quoted, with the quotes within it doubled.
3. Elsewhere quotes are ``"…"`` with ``""`` within, or ``"…"`` with ``\\"`` within where that leaves fewer broken rows;
   ``'…'`` where those stand around all cells of a column; and letters where several lines begin a field with one, no field
   is wholly quoted, and nothing is broken without them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .layout import Layout

DELIMITERS = ",;\t|"

_FEW = 2

_ENOUGH = 5_000
"""Lines from which it is known which columns have few values."""

_MOST_VALUES = 100

_HOPELESS = 100
"""Errors of a reader after which nobody needs to know how many more there are: each may have read to the end."""


@dataclass(frozen=True)
class Dialect:
    """``quote`` is None where a quote is a letter; ``escape`` is a backslash where quotes are not doubled."""

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    skip: int = 0
    """Lines before the header: one where the file begins with ``sep=;``."""
    values: tuple[frozenset[str] | None, ...] = ()
    """Of each column that has only a few different cells, those; it tells rows from lines of a text."""

    def reader(self, lines: Iterable[str]) -> Any:
        """Return what ``csv`` reads records with. It raises csv.Error at a broken one."""
        if self.quote is None:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, quotechar=None, strict=True)
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar=self.escape,
            doublequote=self.escape is None,
            strict=True,
        )

    def spoken(self, usual: str) -> str:
        """Return a few words on what is not as a person would expect of a table that ``usual`` separates."""
        said = [] if self.delimiter == usual else [f"{_NAMES.get(self.delimiter, self.delimiter)} between columns"]
        if self.quote == "'":
            said.append("single quotes around texts")
        elif self.escape:
            said.append('quotes written as \\"')
        elif self.quote is None and usual != "\t":
            said.append("quotes as letters")
        elif self.quote is not None and usual == "\t":
            said.append("quotes around texts")
        return " and ".join(said)


_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}


def find_dialect(lines: Sequence[str], delimiters: str, layout: Layout) -> Dialect:
    """Return the dialect of a file that begins with ``lines``, where the layout does not say.

    ``delimiters`` are those that it may have, the likeliest first.
    """
    lines = [line.rstrip("\r\n") for line in lines if line.strip()]
    skip = 0
    if lines and (stated := re.fullmatch(r'"?sep=(.)"?', lines[0].removeprefix("\ufeff"))):
        delimiters, lines, skip = stated[1], lines[1:], 1
    if layout.delimiter is not None:
        delimiters = layout.delimiter
    delimiter = _delimiter(lines, delimiters, None if layout.columns is None else len(layout.columns))
    if layout.quote is not None:
        dialects = [Dialect(delimiter, None if layout.quote == "none" else layout.quote, None, skip)]
    elif delimiter == "\t":
        dialects = [Dialect(delimiter, '"' if _quoted_throughout(lines, delimiter) else None, None, skip)]
    elif _single(lines, delimiter):
        dialects = [Dialect(delimiter, "'", None, skip)]
    elif _letters(lines, delimiter):
        dialects = [Dialect(delimiter, None, None, skip)]
    else:
        dialects = [Dialect(delimiter, '"', escape, skip) for escape in (None, "\\")]
    dialects = [replace(dialect, values=_values(lines, dialect)) for dialect in dialects]
    if len(dialects) > 1 and any('\\"' in line for line in lines):
        return min(dialects, key=lambda dialect: _broken(lines, dialect))  # the first of those that are equally good
    return dialects[0]


def _delimiter(lines: Sequence[str], delimiters: str, width: int | None) -> str:
    """Return the likeliest delimiter; ``width`` is the number of fields, where a person named the columns."""
    if len(delimiters) == 1 or not lines:
        return delimiters[0]
    bare = [re.sub(r'"(?:[^"]|"")*"', "", line) for line in lines]

    def fitting(delimiter: str) -> tuple[int, int]:
        wanted = bare[0].count(delimiter) if width is None else width - 1
        return (sum(line.count(delimiter) == wanted for line in bare) if wanted else 0), wanted

    # A comma in every third text is no delimiter, however often the first line has one.
    return max(delimiters, key=fitting)


def _quoted_throughout(lines: Sequence[str], delimiter: str) -> bool:
    """Whether quotes are those of a writer that quotes, and not letters of the texts."""
    width = lines[0].count(delimiter) if lines else 0
    if all(line.count(delimiter) == width for line in lines):
        rows = [line.split(delimiter) for line in lines]
        having = [field for row in rows for field in row if '"' in field]
        if not having or not all(map(_WHOLE.fullmatch, having)):
            return False
        body = rows[1:] or rows
        always = any(all(row[at].startswith('"') for row in body) for at in range(width + 1))
        return always or any('""' in field[1:-1] or "\r" in field for field in having)
    # Lines of other lengths: a field with a line end or a tab within has to be quoted to be a field at all.
    quoted, plain = Dialect(delimiter, '"'), Dialect(delimiter, None)
    return _broken(lines, quoted) < _broken(lines, plain)


_WHOLE = re.compile(r'"(?:[^"]|"")*"')


def _single(lines: Sequence[str], delimiter: str) -> bool:
    """Whether single quotes stand around all cells of a column, and double ones begin no field."""
    if len(lines) < _FEW + 1 or any(line.startswith('"') or f'{delimiter}"' in line for line in lines):
        return False
    whole = re.compile(rf"(?:^|{re.escape(delimiter)})'(?:[^']|''|\\')*'(?={re.escape(delimiter)}|$)")
    return all(whole.search(line) for line in lines[1:])


def _letters(lines: Sequence[str], delimiter: str) -> bool:
    """Whether quotes begin fields without ever being around one."""
    width = lines[0].count(delimiter) if lines else 0
    if width == 0 or any(line.count(delimiter) != width for line in lines):
        return False
    fields = [field for line in lines for field in line.split(delimiter) if field.startswith('"')]
    return len(fields) > _FEW and not any(map(_WHOLE.fullmatch, fields))


def _values(lines: Sequence[str], dialect: Dialect) -> tuple[frozenset[str] | None, ...]:
    """Return the cells of each column that has few different ones, counted over lines that are a row each."""
    width = 0
    seen: list[set[str]] = []
    rows = 0
    for line in lines[: _ENOUGH + 1]:
        fields = line.split(dialect.delimiter)
        if not width:
            width, seen = len(fields), [set() for _ in fields]
        elif len(fields) == width and (dialect.quote is None or dialect.quote not in line):
            rows += 1
            for cells, field in zip(seen, fields, strict=True):
                cells.add(field)
    most = min(rows // 2, _MOST_VALUES)
    return tuple(frozenset(cells) - {""} if len(cells) <= most else None for cells in seen)


def _broken(lines: Sequence[str], dialect: Dialect) -> float:
    """Return the share of lines that are in no good record."""
    feed = _Feed(lines)
    reader, width, good, errors = dialect.reader(feed), 0, 0, 0
    while errors < _HOPELESS:
        start = feed.at
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error:
            feed.at, errors = start + 1, errors + 1
            continue
        width = width or len(fields)
        if len(fields) != width or swallows(lines[start : feed.at], dialect, width):
            feed.at = start + 1
        else:
            good += feed.at - start
    return 1 - good / max(len(lines), 1)


def swallows(record: Sequence[str], dialect: Dialect, width: int) -> bool:
    """Whether a record of several lines is several rows that a stray quote made one.

    Each of its lines is a row by itself then: with the table's number of fields, and with one of the few values of a
    column that has only few. A text of several lines with as many commas in each is no such row.
    """
    if len(record) < _FEW or width < _FEW or not any(dialect.values):
        return False
    rows = [line.split(dialect.delimiter) for line in record]
    known = [(at, values) for at, values in enumerate(dialect.values) if values]
    return all(len(row) == width and all(row[at] in values for at, values in known) for row in rows)


class _Feed:
    """Lines for a reader, from a place that can be set back."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines, self.at = lines, 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self.at == len(self.lines):
            raise StopIteration
        self.at += 1
        return self.lines[self.at - 1] + "\n"
