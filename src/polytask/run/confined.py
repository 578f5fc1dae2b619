"""A run folder is data, whoever made it: nothing in it may lead out of it, or be anything but files and folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from polytask.errors import RunFolderError


def check_confined(folder: Path) -> None:
    """Raise RunFolderError for a link in a folder that leads out of it, and for pipes, sockets and devices."""
    home = os.path.realpath(folder)
    for above, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(above, name)
            if path.is_symlink() and os.path.commonpath([home, os.path.realpath(path)]) != home:
                raise RunFolderError(f"{path} leads out of the run folder, to {os.readlink(path)}: it is not opened.")
            if not path.is_symlink() and stat.S_IFMT(path.lstat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
                raise RunFolderError(f"{path} is neither a file nor a folder: it is not opened.")
