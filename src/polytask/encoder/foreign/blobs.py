"""Files of the hub's cache: each is a link to a blob that is called by its own hash, so that it can be checked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from polytask.errors import CheckpointError

_SHA256, _SHA1 = 64, 40


def check_blobs(folder: Path) -> None:
    """Compare each file of a snapshot with the hash that its blob is called by. Raises CheckpointError.

    Large files are called by their sha256, others as git calls them. Where the cache has no links there is no name.
    """
    for link in sorted(folder.iterdir()):
        if not link.is_symlink():
            continue
        blob = Path(os.path.realpath(link))
        wanted = blob.name
        try:
            found = _hash(blob, len(wanted))
        except OSError as error:
            raise CheckpointError(f"{link} cannot be read ({error}). Remove {blob} and {link}.") from error
        if found is not None and found != wanted:
            raise CheckpointError(
                f"{link} has the hash {found}; wanted {wanted}. Remove {blob} to have it downloaded again."
            )


def _hash(blob: Path, digits: int) -> str | None:
    if digits not in (_SHA256, _SHA1):
        return None
    with blob.open("rb") as file:
        if digits == _SHA256:
            return hashlib.file_digest(file, "sha256").hexdigest()
        # git's own: no defence against somebody who means it, but small files hold no weights
        git = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
        while block := file.read(1 << 20):
            git.update(block)
        return git.hexdigest()
