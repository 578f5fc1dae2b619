from __future__ import annotations

from pathlib import Path

from polytask.errors import UserError, quoted

from .base import Columns, Labels, TextFormat, formats


@formats.register("cs224n")
class Cs224n(TextFormat):
    """The leaderboard's of the course CS224N: a header, then lines ``id , value``, the value as tables spell it."""

    def __init__(self, path: Path, labels: Labels) -> None:
        super().__init__(path, labels)
        self.begun = False

    def add(self, rows: Columns) -> None:
        if not self.begun:
            self.file.write(f"id \t Predicted_{self.labels.column.title()} \n")
            self.begun = True
        spelling = self.labels.spellings or {}
        for row_id, value in zip(rows.ids, rows.predictions, strict=True):
            shown = " ".join(spelling[v] for v in value) if isinstance(value, list) else spelling.get(str(value), value)
            if "," in row_id or len(row_id.splitlines()) > 1:
                raise UserError(
                    f"The id {quoted(row_id)} holds a comma or a line end, which 'cs224n' has no way to write; "
                    "'csv' and 'jsonl' have."
                )
            self.file.write(f"{row_id} , {shown} \n")
