"""Tables that are text files, read line by line: CSV, TSV and JSONL, in UTF-8 unless another encoding is given."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import json
import re
import sys
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from polytask.errors import TableError

from .dialects import DELIMITERS, Dialect, find_dialect, swallows
from .encodings import not_utf8, nul
from .formats import Row, TableReader, file_state, unchanged
from .layout import Layout
from .problems import RowProblem

LONGEST_TEXT = 2**24
"""Characters of the longest cell. An unclosed quote is given up after as many, so it cannot swallow a whole file."""

LONGEST_LINE = 2**26
"""Bytes of the longest line: what is longer has no line ends and is not a table."""

SAMPLE = 2**22
"""Characters from which a dialect is found, whole lines of them."""


class _Lines(Iterator[str]):
    """The lines of a file; those of the current record can be put back, and are then handed out again.

    The file is one of UTF-8 bytes, or, where the encoding is another, of the text that it stands for.
    """

    def __init__(self, name: str, file: BinaryIO | io.TextIOWrapper, digest: Any) -> None:
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
        try:
            raw = self._file.readline(LONGEST_LINE)
        except UnicodeError as error:
            encoding = cast(io.TextIOWrapper, self._file).encoding
            raise TableError(
                f"{self._name}: after line {self.number} there is no text in {encoding}: {error}."
            ) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise TableError(f"{self._name} cannot be unpacked: {str(error).rstrip('.')}.") from error
        if not raw:
            raise StopIteration
        text = raw if isinstance(raw, str) else self._decoded(raw)
        self._digest.update(text.encode())
        if len(raw) == LONGEST_LINE:
            raise TableError(f"{self._name}: line {self.number + 1} is longer than {LONGEST_LINE:,} bytes.")
        if "\0" in text:
            start = self._start if isinstance(raw, bytes) else b""
            raise TableError(f"{self._name}: line {self.number + 1}, byte {text.index(chr(0)) + 1} is {nul(start)}")
        return text.removeprefix("\ufeff") if self.number == 0 else text

    def _decoded(self, raw: bytes) -> str:
        self._start = raw[:64] if self.number == 0 else self._start
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            why = not_utf8(self._start, raw, error.start)
            where = f"{self._name}: line {self.number + 1}, byte"
            raise TableError(f"{where} {error.start + 1} is {why}") from error


_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks, the longer ones first: that of UTF-32 begins as that of UTF-16 does."""


_PLAIN = Layout()


class Text:
    """A text file, packed with gzip where the name ends in ``.gz``. Raises OSError when it cannot be read."""

    def __init__(self, name: str, encoding: str | None = None) -> None:
        self.name, self.encoding = name, encoding
        self._state = file_state(name)
        self._digest = hashlib.sha256()

    @contextmanager
    def lines(self) -> Iterator[_Lines]:
        """Open the file for reading it line by line."""
        self._digest = hashlib.sha256()
        try:
            with open(self.name, "rb") as file:
                unchanged(self.name, self._state, file.fileno())
                yield _Lines(self.name, self._opened(file), self._digest)
                unchanged(self.name, self._state, file.fileno())
        except OSError as error:
            raise TableError(f"{self.name} cannot be read: {error.strerror or error}.") from error

    def first(self, most: int) -> list[str]:
        """Return some lines from the beginning."""
        with self.lines() as lines:
            return [line for line, _ in zip(lines, range(most), strict=False)]

    def fingerprint(self) -> str:
        """Return the SHA-256 of the text that was last read, in UTF-8."""
        return self._digest.hexdigest()

    def _opened(self, file: io.BufferedReader) -> BinaryIO | io.TextIOWrapper:
        plain: Any = gzip.GzipFile(fileobj=file) if self.name.lower().endswith(".gz") else file
        encoding = self.encoding
        if encoding is None and plain is file:
            start = file.peek(4)[:4]
            encoding = next((name for mark, name in _MARKS if start.startswith(mark)), None)
        if encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
            return cast(BinaryIO, plain)
        return io.TextIOWrapper(plain, encoding, newline="\n")


class TextFile(TableReader):
    """A format that is read line by line."""

    takes: tuple[str, ...] = ("encoding",)
    """Options of a layout that say something to this format."""

    def __init__(self, name: str, layout: Layout = _PLAIN) -> None:
        super().__init__(name)
        layout.only(name, *self.takes)
        self.layout = layout
        self._text = Text(name, layout.encoding)
        self.lines = self._text.lines

    def fingerprint(self) -> str:
        return self._text.fingerprint()


class Delimited(TextFile):
    """Fields between delimiters: CSV, and whatever is called so."""

    delimiters = DELIMITERS
    takes = ("encoding", "delimiter", "quote", "header", "columns")
    _dialect: Dialect | None = None

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        with self.lines() as lines:
            return self._begin(lines)

    def rows(self, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
        with self.lines() as lines:
            names = self._begin(lines)
            chosen = [names.index(column) for column in columns]
            for record in _records(lines, self.dialect, len(names)):
                if isinstance(record, RowProblem):
                    yield record
                elif len(record[1]) != len(names):
                    yield RowProblem(record[0], None, _ragged(record, len(names), lines.number))
                    if any(line.count(self.dialect.delimiter) == len(names) - 1 for line in lines.record[1:]):
                        lines.put_back(1)  # the quotation has taken good rows into it
                else:
                    yield record[0], [record[1][index] or None for index in chosen]

    @property
    def dialect(self) -> Dialect:
        """What separates the fields: as the layout says, or found from the file's first lines."""
        if self._dialect is None:
            with self.lines() as lines:
                self._dialect = find_dialect(sample(lines), self.delimiters, self.layout)
        return self._dialect

    def about(self) -> str:
        said = self.dialect.spoken(self.delimiters[0])
        return f"read with {said}" if said else ""

    def _begin(self, lines: _Lines) -> list[str]:
        """Return the names, and leave ``lines`` at the first row."""
        dialect = self.dialect
        for _ in range(dialect.skip):
            next(lines)
        line = next((line for line in lines if line.strip()), "")
        if not line:
            raise TableError(f"{self.name} is empty: a table is a header line and rows.")
        lines.put_back(-1)
        record = next(_records(lines, dialect, 0))
        if isinstance(record, RowProblem):
            if "\r" in line.rstrip("\r\n"):
                raise TableError(f"{self.name}: line 1 ends in a carriage return alone; save it with line feeds.")
            raise TableError(f"{self.name}: the header cannot be read: {record}.")
        names = [name or f"column {number}" for number, name in enumerate(record[1], 1)]
        columns = self.layout.columns
        if columns is None:
            return names
        if len(columns) != len(names):
            raise TableError(
                f"{self.name}: {len(columns)} columns are named, and its first line has {len(names)} fields."
            )
        # Whoever names the columns has no header, unless it is said, or those very names stand there.
        if not (self.layout.header or set(columns) == set(names)):
            lines.put_back(0)
            return list(columns)
        return list(columns) if self.layout.header else names


class TabSeparated(Delimited):
    delimiters = "\t"


def sample(lines: Iterator[str]) -> list[str]:
    """Return the first lines of a file, some ``SAMPLE`` characters of them."""
    taken: list[str] = []
    size = 0
    for line in lines:
        taken.append(line)
        size += len(line)
        if size > SAMPLE:
            break
    return taken


def _records(lines: _Lines, dialect: Dialect, width: int) -> Iterator[tuple[int, list[str]] | RowProblem]:
    """Yield the records with their first lines; ``width`` is the number of fields that a row has, 0 where none is known."""
    csv.field_size_limit(max(LONGEST_TEXT, csv.field_size_limit()))
    reader = dialect.reader(lines)
    while True:
        lines.record.clear()
        start = lines.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield RowProblem(start, None, _why(str(error), lines, dialect))
            lines.put_back(1)  # a quote that should not be there has swallowed good rows
            continue
        if width and swallows([line.rstrip("\r\n") for line in lines.record], dialect, width):
            yield RowProblem(start, None, _swallowed(lines, dialect))
            lines.put_back(1)
            continue
        if fields:  # a blank line has none
            yield start, fields


def _swallowed(lines: _Lines, dialect: Dialect) -> str:
    rows = len(lines.record)
    quote = f"the quote opened on line {lines.number - rows + 1}"
    return f'{quote} closes on line {lines.number} and makes one row of {rows}; quote = "none" reads quotes as letters'


def _ragged(record: tuple[int, list[str]], wanted: int, end: int) -> str:
    start, fields = record
    until = f"; a quoted text in it runs to line {end}" if end > start else ""
    count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    return f"{count} where the header has {wanted}{until}"


def _why(error: str, lines: _Lines, dialect: Dialect) -> str:
    if "new-line" in error:
        return "a carriage return stands outside quotes"
    if "limit" in error and len(lines.record) == 1:
        return f"a text is longer than {LONGEST_TEXT:,} characters"
    opened = lines.number - len(lines.record) + 1 + _opening(lines.record, dialect)
    if "expected after" not in error:
        return f"the quote opened on line {opened} never closes"
    if opened == lines.number:
        return 'text follows a closing quote (a quote inside a quoted text is written twice: "")'
    return f"the quote opened on line {opened} is not closed before line {lines.number}, where text follows it"


def _opening(record: list[str], dialect: Dialect) -> int:
    """Return in which line of a broken record its last quote was opened, from 0."""
    text = "".join(record)
    between, quote = re.escape(dialect.delimiter), dialect.quote or '"'
    field = re.compile(
        rf"(?:{quote}[^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+{quote}|[^{quote}{between}\n][^{between}\n]*+)?{between}"
    )
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
        with self.lines() as lines:
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
