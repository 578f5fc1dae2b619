"""Tables that are text files, read line by line: CSV, TSV and JSONL, in UTF-8."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from polytask.errors import TableError

from .encodings import not_utf8, nul
from .formats import Row, TableReader, file_state, unchanged
from .problems import RowProblem

LONGEST_TEXT = 2**24
"""Characters of the longest cell. An unclosed quote is given up after as many, so it cannot swallow a whole file."""

LONGEST_LINE = 2**26
"""Bytes of the longest line: what is longer has no line ends and is not a table."""


class _Lines(Iterator[str]):
    """The lines of a file; those of the current record can be put back, and are then handed out again."""

    def __init__(self, name: str, file: BinaryIO, digest: Any) -> None:
        self.number = 0
        self.record: list[str] = []
        self._name, self._file, self._digest = name, file, digest
        self._again: deque[str] = deque()
        self._start = b""

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        self.number += 1
        self.record.append(line)
        return line

    def put_back(self, start: int) -> None:
        """Hand out the lines of the record from ``start`` on again."""
        lines = self.record[start:]
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)

    def _read(self) -> str:
        raw = self._file.readline(LONGEST_LINE)
        if not raw:
            raise StopIteration
        self._digest.update(raw)
        if len(raw) == LONGEST_LINE:
            raise TableError(f"{self._name}: line {self.number + 1} is longer than {LONGEST_LINE:,} bytes.")
        if self.number == 0:
            self._start = raw[:64]
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        where = f"{self._name}: line {self.number + 1}, byte"
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            why = not_utf8(self._start, raw, error.start)
            raise TableError(f"{where} {error.start + 1} is {why}") from error
        if "\0" in text:
            raise TableError(f"{where} {raw.index(0) + 1} is {nul(self._start)}")
        return text


class TextFile(TableReader):
    """A format that is read line by line."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._state = file_state(name)

    @contextmanager
    def _lines(self) -> Iterator[_Lines]:
        self._digest = hashlib.sha256()
        try:
            with open(self.name, "rb") as file:
                unchanged(self.name, self._state, file.fileno())
                yield _Lines(self.name, file, self._digest)
                unchanged(self.name, self._state, file.fileno())
        except OSError as error:
            raise TableError(f"{self.name} cannot be read: {error.strerror or error}.") from error


class Delimited(TextFile):
    delimiters = ",\t;"

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        with self._lines() as lines:
            return self._begin(lines)[1]

    def rows(self, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
        with self._lines() as lines:
            delimiter, names = self._begin(lines)
            chosen = [names.index(column) for column in columns]
            for record in _records(lines, delimiter):
                if isinstance(record, RowProblem):
                    yield record
                elif len(record[1]) != len(names):
                    yield RowProblem(record[0], None, _ragged(record, len(names), lines.number))
                else:
                    yield record[0], [record[1][index] or None for index in chosen]

    def _begin(self, lines: _Lines) -> tuple[str, list[str]]:
        """Return the delimiter and the names, and leave ``lines`` at the first row."""
        line = next((line for line in lines if line.strip()), "")
        if not line:
            raise TableError(f"{self.name} is empty: a table is a header line and rows.")
        lines.put_back(-1)
        delimiter = max(self.delimiters, key=re.sub('"[^"]*"?', "", line).count)
        record = next(_records(lines, delimiter))
        if isinstance(record, RowProblem):
            if "\r" in line.rstrip("\r\n"):
                raise TableError(f"{self.name}: line 1 ends in a carriage return alone; save it with line feeds.")
            raise TableError(f"{self.name}: the header cannot be read: {record}.")
        return delimiter, [name or f"column {number}" for number, name in enumerate(record[1], 1)]


class TabSeparated(Delimited):
    delimiters = "\t"


def _records(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str]] | RowProblem]:
    csv.field_size_limit(max(LONGEST_TEXT, csv.field_size_limit()))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.record.clear()
        start = lines.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield RowProblem(start, None, _why(str(error), lines, delimiter))
            lines.put_back(1)  # a quote that should not be there has swallowed good rows
            continue
        if fields:  # a blank line has none
            yield start, fields


def _ragged(record: tuple[int, list[str]], wanted: int, end: int) -> str:
    start, fields = record
    until = f"; a quoted text in it runs to line {end}" if end > start else ""
    count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    return f"{count} where the header has {wanted}{until}"


def _why(error: str, lines: _Lines, delimiter: str) -> str:
    if "new-line" in error:
        return "a carriage return stands outside quotes"
    if "limit" in error and len(lines.record) == 1:
        return f"a text is longer than {LONGEST_TEXT:,} characters"
    opened = lines.number - len(lines.record) + 1 + _opening(lines.record, delimiter)
    if "expected after" not in error:
        return f"the quote opened on line {opened} never closes"
    if opened == lines.number:
        return 'text follows a closing quote (a quote inside a quoted text is written twice: "")'
    return f"the quote opened on line {opened} is not closed before line {lines.number}, where text follows it"


def _opening(record: list[str], delimiter: str) -> int:
    """Return in which line of a broken record its last quote was opened, from 0."""
    text = "".join(record)
    field = re.compile(rf'(?:"[^"]*+(?:""[^"]*+)*+"|[^"{delimiter}\n][^{delimiter}\n]*+)?{delimiter}')
    at = 0
    while whole := field.match(text, at):
        at = whole.end()
    return text.count("\n", 0, at)


class JsonLines(TextFile):
    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        names: dict[str, None] = {}
        trouble: RowProblem | None = None
        for record in self._objects():
            if isinstance(record, RowProblem):
                trouble = trouble or record
                continue
            names.update(dict.fromkeys(record[1]))
            if wanted is not None and all(column in names for column in wanted):
                return list(names)
        if not names:
            raise TableError(f"{self.name} {'is empty' if trouble is None else f'has no row: {trouble}'}.")
        return list(names)

    def rows(self, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
        for record in self._objects():
            if isinstance(record, RowProblem):
                yield record
            else:
                yield self._row(record[0], columns, [record[1].get(column) for column in columns])

    def _objects(self) -> Iterator[tuple[int, dict[str, object]] | RowProblem]:
        with self._lines() as lines:
            for line in lines:
                lines.record.clear()
                if line.strip():
                    yield _json_object(lines.number, line)


class _Twice(ValueError):
    """A key that stands twice in one object: which of its values is meant, nobody can tell."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _Twice(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
    return value


def _json_object(place: int, line: str) -> tuple[int, dict[str, object]] | RowProblem:
    try:
        value = json.loads(line.rstrip("\r\n"), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        return RowProblem(place, None, f"not JSON: {error.msg} at character {error.pos + 1}")
    except _Twice as error:
        return RowProblem(place, str(error), "the key stands twice in this object")
    except ValueError:
        most = sys.get_int_max_str_digits()
        return RowProblem(place, None, f"not JSON that can be read: a number in it has more than {most:,} digits")
    except RecursionError:
        return RowProblem(place, None, "not JSON that can be read: it is nested too deeply")
    if not isinstance(value, dict):
        return RowProblem(place, None, f"a JSON {type(value).__name__}, where an object is wanted")
    return place, value
