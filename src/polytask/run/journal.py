"""A run's journal: one JSON object a line, in the order of events."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from polytask.errors import RunFolderError
from polytask.runtime import files

from .events import Event, Recorded, from_json
from .listen import Listener


class Journal(Listener):
    """Keeps the recorded events, one JSON object a line, in their order."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open the journal and cut it to ``length`` bytes, what the last checkpoint knew of it.

        Raises RunFolderError when it is shorter than that.
        """
        self.path = path
        with files.disk_errors(path), ExitStack() as opened:
            self._file = opened.enter_context(path.open("ab"))
            known = self._file.seek(0, os.SEEK_END)
            if known < length:
                raise RunFolderError(
                    f"{path} has {known} bytes; at the last checkpoint it had {length}. It was altered."
                )
            if known > length:
                files.cut(self._file, length)
            opened.pop_all()

    def hear(self, event: Event) -> str | None:
        """Append an event, if it is one that is recorded. Raises StorageError when the disk is full."""
        if isinstance(event, Recorded):
            line = json.dumps(event.to_json(), ensure_ascii=False, allow_nan=False)
            with files.disk_errors(self.path):
                files.append(self._file, line.encode() + b"\n")
        return None

    @property
    def length(self) -> int:
        return self._file.tell()

    def sync(self) -> None:
        """Wait until the events are on the disk."""
        with files.disk_errors(self.path):
            files.sync(self.path)

    def close(self) -> None:
        with files.disk_errors(self.path):
            self._file.close()


def read_events(path: Path) -> list[Recorded]:
    """Return the events of a journal as records. Raises RunFolderError for a line that holds none."""
    return [from_json(line) for line in read_journal(path)]


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a journal as they stand; one that a crash tore off is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]
