"""The file operations that a crash must not tear: write aside, sync, rename. All writing goes through here.

What changes a disk is one of the small functions at the end, called by its name in this module: tests replace them by
ones that fail, or stop, at the n-th call.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import IO

from polytask.errors import Remedy, RunFolderError, StorageError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


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
        with disk_errors(path):
            mode = _mode_of_a_new_file(aside)  # some writers make theirs private
            yield aside
            aside.chmod(mode)
            sync(aside)
            replace(aside, path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            remove(aside)


@contextmanager
def written_out(path: Path) -> Iterator[Path]:
    """Give a path to write what a person asked for at ``path``: a file, a link to one, a device, a pipe, or "-" for stdout.

    A file is replaced at once, where a link leads to it; what is no regular file is written to, never replaced.
    """
    if str(path) != "-" and not _passes_on(path):
        with written_aside(path.resolve() if path.is_symlink() else path) as aside:
            yield aside
        return
    with TemporaryDirectory() as folder:
        whole = Path(folder) / (path.name if path.name != "-" else "stdout")
        yield whole
        with disk_errors(path), whole.open("rb") as made:
            if str(path) == "-":
                sys.stdout.flush()
                shutil.copyfileobj(made, sys.stdout.buffer)
                sys.stdout.flush()
            else:
                with path.open("wb", buffering=0) as file:
                    shutil.copyfileobj(made, file)


def _passes_on(path: Path) -> bool:
    """Whether what is written there is passed on: to a device, a pipe, or a file that a process holds open."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    held = path.is_symlink() and path.resolve().parts[1:2] in (("dev",), ("proc",))
    link = path.is_symlink() and str(path.readlink()).startswith(("/proc/", "/dev/"))
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or held or link or path.parts[:2] == ("/", "dev")


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
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write ``path`` into an error that names it.

    Raises StorageError when the disk is full or fails, RunFolderError when nothing may be written there at all.
    """
    try:
        yield
    except OSError as error:
        kind = StorageError if error.errno in _NO_ROOM else RunFolderError
        raise kind(f"{path} cannot be written: {error.strerror or error}.") from error


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new one, never a part."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file, and put it in place once it is whole."""
    with written_aside(path) as aside:
        write(aside)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_folder(path: Path) -> None:
    """Make a folder that is not there yet, or is empty. Raises RunFolderError for one that holds something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not (path / "recipe.toml").is_file():
            raise RunFolderError(f"{path} already exists, is not empty and is no run folder.", Remedy("out"))
        raise RunFolderError(f"{path} already exists and is not empty.", Remedy("resume or out"))
    make_folder(path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there."""
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def replace(source: Path, target: Path) -> None:
    """Put a file in another's place at once."""
    source.replace(target)


def sync_folder(path: Path) -> None:
    """Wait until the disk knows the names in a folder."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, as far as that can be done."""
    shutil.rmtree(path, ignore_errors=True)


def append(file: IO[bytes], data: bytes) -> None:
    """Write to the end of an open file, past Python's own buffer."""
    file.write(data)
    file.flush()


def cut(file: IO[bytes], length: int) -> None:
    """Drop what lies behind the first ``length`` bytes of an open file, and go there."""
    file.truncate(length)
    file.seek(0, os.SEEK_END)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk knows no links. Only for files never changed in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
