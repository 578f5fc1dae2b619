"""Running text, read as a table of its sentences: column ``sentence``, and ``next``, the sentence that follows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .formats import Row
from .problems import RowProblem
from .textfiles import TextFile

COLUMNS = ["sentence", "next"]

_ENDS = re.compile(r"(?<=[.!?])([\"'”’)\]]*)\s+(?=[\"'“‘(\[]*[^\W_a-z])")


class RunningText(TextFile):
    """A .txt file. A blank line ends a document; ``next`` never reaches into another one.

    A sentence ends at the end of its line, and after ``.``, ``!`` or ``?`` (and closing quotes or brackets) before a
    blank and a capital letter or a number. It is a simple rule: it stumbles over "Dr. Who", and text that is wrapped
    at a column must be unwrapped first. With ``next`` asked for, a document's last sentence is no row.
    """

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        return list(COLUMNS)

    def rows(self, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
        for place, sentence, following in self._sentences():
            cells: dict[str, str | None] = {"sentence": sentence, "next": following}
            if following is not None or "next" not in columns:
                yield place, [cells[column] for column in columns]

    def _sentences(self) -> Iterator[tuple[int, str, str | None]]:
        """Yield each sentence with its line and the sentence after it in the same document."""
        held: tuple[int, str] | None = None
        for place, sentence in self._flow():
            if held is not None:
                yield *held, sentence
            held = None if sentence is None else (place, sentence)
        if held is not None:
            yield *held, None

    def _flow(self) -> Iterator[tuple[int, str | None]]:
        """Yield the sentences with their lines; None where a document ends."""
        with self.lines() as lines:
            for line in lines:
                lines.record.clear()
                found: list[str | None] = [*sentences(line)]
                yield from ((lines.number, sentence) for sentence in found or [None])


def sentences(line: str) -> list[str]:
    """Return the sentences of a line."""
    return [sentence for sentence in _ENDS.sub(r"\1\n", line.strip()).split("\n") if sentence]
