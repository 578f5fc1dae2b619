from __future__ import annotations

import json

from .base import Columns, TextFormat, formats


@formats.register("jsonl")
class JsonLines(TextFormat):
    """A JSON object a line: id, prediction, and probabilities by label where there are any."""

    def add(self, rows: Columns) -> None:
        for record in rows.records():
            self.file.write(json.dumps(record, ensure_ascii=False) + "\n")
