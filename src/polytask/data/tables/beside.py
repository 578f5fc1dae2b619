"""A table whose columns are files of their own: a cell a line, the n-th lines of all files being the n-th row (TweetEval)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from itertools import zip_longest

from polytask.errors import TableError

from .formats import Row, TableReader
from .layout import Layout
from .problems import RowProblem
from .textfiles import Text


class Beside(TableReader):
    """``files`` names the file of each column. Raises TableError when one has more lines than another."""

    def __init__(self, files: Mapping[str, str], layout: Layout) -> None:
        super().__init__(" + ".join(files.values()))
        layout.only(self.name, "encoding")
        self._files: dict[str, Text] = {}
        for column, file in files.items():
            try:
                self._files[column] = Text(file, layout.encoding)
            except OSError as error:
                raise TableError(f"{file} cannot be read: {error.strerror or error}.") from error

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        return list(self._files)

    def rows(self, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
        with ExitStack() as stack:
            # All of them, those that nobody asked for as well: a row is what all files say of it.
            files = {column: stack.enter_context(file.lines()) for column, file in self._files.items()}
            for place, lines in enumerate(zip_longest(*files.values()), 1):
                for lines_of in files.values():
                    lines_of.record.clear()
                if None in lines:
                    raise TableError(
                        self._uneven(
                            {column: place - (line is None) for column, line in zip(files, lines, strict=True)}
                        )
                    )
                cells = {column: line.rstrip("\r\n") or None for column, line in zip(files, lines, strict=True)}
                yield place, [cells[column] for column in columns]

    def fingerprint(self) -> str:
        return sha256("".join(file.fingerprint() for file in self._files.values()).encode()).hexdigest()

    def _uneven(self, places: Mapping[str, int]) -> str:
        short = min(places, key=lambda column: places[column])
        long = max(places, key=lambda column: places[column])
        names = {column: file.name for column, file in self._files.items()}
        return f"{names[short]} has {places[short]} lines, and {names[long]} has more: line n of each is row n."
