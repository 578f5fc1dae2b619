"""The file operations that a crash must not tear: write aside, sync, rename. All writing goes through here."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from polytask.errors import RunFolderError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; afterwards it is synced and takes the place of ``path`` at once.

    When the block fails, ``path`` is as it was and the file beside it is gone. Its name is drawn: processes of several
    machines or containers, which may have equal ids, can write to one folder.
    """
    if path.is_dir():
        raise RunFolderError(f"{path} is a folder; the name of a file is wanted.")
    aside = path.with_name(f".{path.name}.{os.getpid()}-{token_hex(4)}.part")
    try:
        with told(path):
            mode = _mode_of_a_new_file(aside)  # some writers make theirs private
            yield aside
            aside.chmod(mode)
            sync(aside)
            rename(aside, path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def sweep(folder: Path, older: float = 24 * 3600.0) -> None:
    """Remove what killed processes left aside in a folder; what is younger than ``older`` seconds may still be written."""
    for leftover in folder.glob(".*.part"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > older:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _mode_of_a_new_file(path: Path) -> int:
    path.touch()
    mode = path.stat().st_mode
    path.unlink()
    return mode


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write ``path`` into an error that names it."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {error.strerror or error}.") from error


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new one, never a part."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file, and put it in place once it is whole."""
    with written_aside(path) as aside:
        write(aside)


def sync(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def rename(source: Path, target: Path) -> None:
    """Put a file in another's place, and wait until the folder has it too."""
    source.replace(target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    path.unlink(missing_ok=True)


def new_folder(path: Path) -> None:
    """Make a folder that is not there yet, or is empty. Raises RunFolderError for one that holds something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not (path / "recipe.toml").is_file():
            raise RunFolderError(f"{path} already exists, is not empty and is no run folder; give another --out.")
        raise RunFolderError(f"{path} already exists and is not empty; give another --out, or `polytask resume` it.")
    with told(path):
        path.mkdir(parents=True, exist_ok=True)
