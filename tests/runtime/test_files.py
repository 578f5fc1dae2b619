"""Files are written aside and renamed: a reader sees the old or the new one, and a failure leaves no litter."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from polytask.errors import RunFolderError
from polytask.runtime import files


def test_a_file_takes_its_place_at_once(tmp_path: Path) -> None:
    target = tmp_path / "index.json"
    target.write_text("old")
    with files.written_aside(target) as aside:
        aside.write_text("new")
        assert aside.parent == tmp_path
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failing_block_leaves_the_old_file_and_no_litter(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "index.json"
    target.write_text("old")

    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise error

    with pytest.raises(type(error)):
        files.write_with(target, fail)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(RunFolderError, match=r"index\.json cannot be written: No such file"),
        files.written_aside(tmp_path / "index.json"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_the_bytes_are_synced_before_the_file_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    replace = Path.replace

    def renamed(source: Path, target: Path) -> Path:
        events.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda number: events.append(Path(os.readlink(f"/proc/self/fd/{number}")).name))
    monkeypatch.setattr(Path, "replace", renamed)
    files.write_text(tmp_path / "a.txt", "new")
    assert re.fullmatch(rf"\.a\.txt\.{os.getpid()}-[0-9a-f]+\.part", events[0])
    assert events[1:] == ["rename", tmp_path.name]


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "naïve →\n")
    assert (tmp_path / "a.txt").read_bytes() == "naïve →\n".encode()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match=r"a\.txt cannot be written: Permission denied"):
        files.write_text(tmp_path / "a.txt", "new")
    tmp_path.chmod(0o700)


def test_a_folder_that_is_none_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for parent in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(RunFolderError) as caught:
            files.write_text(parent / "a.txt", "new")
        assert str(parent / "a.txt") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_new_folder_may_be_there_only_when_it_is_empty(tmp_path: Path) -> None:
    files.new_folder(tmp_path / "deep" / "run")
    files.new_folder(tmp_path / "deep" / "run")
    (tmp_path / "deep" / "run" / "x").write_text("")
    for taken in (tmp_path / "deep" / "run", tmp_path / "deep" / "run" / "x"):
        with pytest.raises(
            RunFolderError, match=r"already exists, is not empty and is no run folder\. Give another .out."
        ):
            files.new_folder(taken)
    (tmp_path / "deep" / "run" / "recipe.toml").write_text("")
    with pytest.raises(RunFolderError, match=r"already exists and is not empty\. Give another .out., or resume"):
        files.new_folder(tmp_path / "deep" / "run")


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    files.remove(tmp_path / "x")
    files.remove(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_written_file_is_as_readable_as_any_other_new_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()

    def write_a_private_file(aside: Path) -> None:
        aside.touch(mode=0o600)

    files.write_with(tmp_path / "written", write_a_private_file)
    assert (tmp_path / "written").stat().st_mode == other.stat().st_mode


def test_what_is_no_regular_file_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with files.written_out(tmp_path / "pipe") as place:
        place.write_bytes(b"predictions")
    assert os.read(reader, 100) == b"predictions"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with files.written_out(tmp_path / "link") as place:
        place.write_text("new", encoding="utf-8")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "new"


def test_a_link_to_what_a_process_holds_open_stays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    with files.written_out(tmp_path / "stdout") as place:
        place.write_text("one,two\n", encoding="utf-8")
    assert (tmp_path / "stdout").is_symlink()
    assert capfd.readouterr().out == "one,two\n"


def test_a_dash_is_stdout(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with files.written_out(Path("-")) as place:
        place.write_text("one,two\n", encoding="utf-8")
    assert list(tmp_path.iterdir()) == []
