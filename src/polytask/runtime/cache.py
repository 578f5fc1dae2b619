"""Where polytask keeps what can be had again: downloaded weights, tokenised tables."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "POLYTASK_CACHE"


def cache_folder() -> Path:
    """Return the folder for caches: what ``POLYTASK_CACHE`` says, else the platform's. It need not exist yet."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else _platform_folder()


def _platform_folder() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "polytask" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "polytask"
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rule: a relative path there is invalid and ignored.
    return (Path(shared) if os.path.isabs(shared) else Path.home() / ".cache") / "polytask"
