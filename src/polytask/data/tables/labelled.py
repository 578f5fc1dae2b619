"""Lines that begin with their label: ``DESC:manner How did serfdom develop ?`` (TREC), ``__label__2 Fine .`` (fastText)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .formats import Row
from .problems import RowProblem
from .textfiles import TextFile

COLUMNS = ["label", "coarse", "text"]


class Labelled(TextFile):
    """A .label file: ``label`` is all before the first blank, ``coarse`` its part before a colon, ``text`` the rest."""

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        with self.lines() as lines:
            fine = any(":" in line.split(" ", 1)[0] for line, _ in zip(lines, range(100), strict=False))
        return COLUMNS if fine else ["label", "text"]

    def rows(self, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
        with self.lines() as lines:
            for line in lines:
                lines.record.clear()
                label, _, text = line.strip().partition(" ")
                if not label:
                    continue
                if not text.strip():
                    yield RowProblem(lines.number, None, "no text follows the label")
                    continue
                label = label.removeprefix("__label__")
                cells: dict[str, str | None] = {"label": label, "coarse": label.partition(":")[0], "text": text.strip()}
                yield lines.number, [cells[column] for column in columns]
