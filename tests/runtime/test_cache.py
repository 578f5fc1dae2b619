"""Where caches lie on each platform, and who may say otherwise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from polytask.runtime.cache import cache_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own, and no variable set."""
    for name in ("POLYTASK_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "wanted"),
    [("linux", ".cache/polytask"), ("darwin", "Library/Caches/polytask"), ("win32", "AppData/Local/polytask/Cache")],
)
def test_each_platform_has_its_place(home: Path, monkeypatch: pytest.MonkeyPatch, platform: str, wanted: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == home / wanted
    assert not cache_folder().exists()


@pytest.mark.parametrize(
    ("platform", "variable", "wanted"),
    [("linux", "XDG_CACHE_HOME", "polytask"), ("win32", "LOCALAPPDATA", "polytask/Cache")],
)
def test_the_platforms_own_variable(
    home: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, wanted: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(home / "chosen"))
    assert cache_folder() == home / "chosen" / wanted


def test_a_relative_xdg_folder_is_ignored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == home / ".cache" / "polytask"


def test_our_own_variable_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "other"))
    monkeypatch.setenv("POLYTASK_CACHE", "~/mine")
    assert cache_folder() == home / "mine"
    monkeypatch.chdir(home)
    monkeypatch.setenv("POLYTASK_CACHE", "here")
    assert cache_folder() == home / "here"
