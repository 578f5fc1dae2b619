"""A disk that fails, a process that is killed, a machine that loses power: at every file operation of a run.

The operations are the functions at the end of ``runtime/files.py``. The n-th one meets the fault, for each n.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from polytask.errors import StorageError
from polytask.jobs.train import resume, train
from polytask.jobs.verify import same_runs
from polytask.runtime import files

Tiny = Callable[..., dict[str, Any]]

OPERATIONS = ("make_folder", "sync", "replace", "sync_folder", "remove", "remove_tree", "append", "cut", "link_or_copy")
NEED_ROOM = ("sync", "append")
"""Operations after whose failure nothing on the disk has changed that would not change for want of room."""


class Killed(BaseException):
    """What stands in for SIGKILL: after it, no file operation of the run comes to pass."""


@dataclass
class Disk:
    """Counts file operations; from the n-th on it does what its fault does."""

    fault: str
    at: int
    root: Path
    count: int = 0
    real: dict[str, Callable[..., None]] = field(default_factory=dict)
    synced: dict[int, int] = field(default_factory=dict)
    renamed: list[tuple[Path, bytes | None]] = field(default_factory=list)
    """Targets whose folder has not been synced since, and what they held."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for path in self.root.rglob("*"):
            self.synced[path.stat().st_ino] = path.stat().st_size
        for name in OPERATIONS:
            self.real[name] = getattr(files, name)
            patch.setattr(files, name, self._instead_of(name))

    @property
    def struck(self) -> bool:
        return self.count >= self.at

    def _instead_of(self, name: str) -> Callable[..., None]:
        def operate(*arguments: Any) -> None:
            if self.fault == "full":
                self._fail_for_want_of_room(name)
            elif self._dies():
                self._die(name, arguments)
            self._note(name, arguments)
            self.real[name](*arguments)

        return operate

    def _dies(self) -> bool:
        self.count += 1
        return self.count >= self.at

    def _fail_for_want_of_room(self, name: str) -> None:
        if name in NEED_ROOM and self._dies():
            raise OSError(errno.ENOSPC, "No space left on device")

    def _die(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.count == self.at:
            if name == "sync" and _is_being_written(arguments[0]):  # the last moment before it: half is written
                os.truncate(arguments[0], os.path.getsize(arguments[0]) // 2)
            if name == "append":
                file: IO[bytes] = arguments[0]
                self.real["append"](file, arguments[1][: len(arguments[1]) // 2])
            if self.fault == "power":
                self._lose_what_was_not_synced()
        raise Killed

    def _note(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "sync":
            status = os.stat(arguments[0])
            self.synced[status.st_ino] = status.st_size
        if name == "replace":
            target: Path = arguments[1]
            self.renamed.append((target, target.read_bytes() if target.exists() else None))
        if name == "sync_folder":
            self.renamed = [(target, old) for target, old in self.renamed if target.parent != arguments[0]]

    def _lose_what_was_not_synced(self) -> None:
        for path in self.root.rglob("*"):
            if path.is_file() and path.stat().st_size > self.synced.get(path.stat().st_ino, 0):
                os.truncate(path, self.synced.get(path.stat().st_ino, 0))
        for target, old in reversed(self.renamed):
            if old is None:
                target.unlink()
            else:
                target.write_bytes(old)


def _is_being_written(path: Path) -> bool:
    return path.suffix == ".part" and path.stat().st_nlink == 1  # a second name is there at once or not at all


@pytest.fixture(scope="module")
def recipe(tiny: Tiny) -> dict[str, Any]:
    """Two stages, joint with surgery and a regularizer, checkpoints between evaluations, in a dozen steps."""
    short = {"batch_size": 4, "learning_rate": 1e-3, "mixing": "joint", "evaluate_every": 3}
    rdrop = {"name": "rdrop", "weight": 0.5}
    made = tiny(
        {**short, "steps": 2, "train": "heads"},
        {**short, "steps": 4, "micro_batch": 3, "aggregator": "pcgrad", "regularizers": [rdrop]},
        only=("sentiment", "similarity"),
        checkpoint_every=2,
    )
    made["encoder"] = {"layers": 1, "width": 8, "heads": 1, "hidden": 8}
    for task in made["tasks"].values():
        task |= {"max_rows": 12, "dev_rows": 4}
    return made


@pytest.fixture(scope="module")
def whole(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that no fault met."""
    return train(recipe, tmp_path_factory.mktemp("faults") / "whole").folder


def go_on(recipe: dict[str, Any], run: Path) -> None:
    """Do what a person would: resume the run if there is one, else train again into the same place."""
    if (run / "recipe.toml").exists():
        resume(run)
    else:
        train(recipe, run)


def struck(recipe: dict[str, Any], run: Path, disk: Disk) -> BaseException | None:
    with pytest.MonkeyPatch.context() as patch:
        disk.install(patch)
        try:
            train(recipe, run)
        except (Killed, StorageError) as error:
            return error
    return None


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("fault", ["full", "killed", "power"])
def test_a_fault_at_any_file_operation_leaves_no_trace(
    recipe: dict[str, Any], whole: Path, tmp_path: Path, fault: str, part: int
) -> None:
    tried = 0
    for at in range(1 + part, 10_000, 4):
        run = tmp_path / f"run-{at}"
        error = struck(recipe, run, Disk(fault, at, run))
        if error is None:
            break
        tried += 1
        if isinstance(error, StorageError):
            assert "No space left on device" in str(error)
            assert "Traceback" not in str(error)
        go_on(recipe, run)
        same_runs(whole, run)
    assert tried > 8


def test_a_fault_while_resuming_is_a_fault_like_others(recipe: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    for at in range(1, 30, 3):
        run = tmp_path / f"run-{at}"
        assert struck(recipe, run, Disk("killed", 60, run)) is not None
        with pytest.MonkeyPatch.context() as patch:
            Disk("power", at, run).install(patch)
            with pytest.raises(Killed):
                resume(run)
        resume(run)
        same_runs(whole, run)


def test_a_full_disk_says_how_to_go_on(recipe: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    error = struck(recipe, run, Disk("full", 30, run))
    assert str(error).endswith(f"Make room, then go on with polytask.resume({str(run)!r}).")
    assert isinstance(error, StorageError)
    assert error.exit_code == 1


LIMITED = """
import json, resource, sys
from polytask.errors import PolytaskError
from polytask.jobs.train import train
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    train(json.loads(sys.argv[1]), sys.argv[2])
except PolytaskError as error:
    sys.stderr.write(f"{type(error).__name__}: {error}")
    sys.exit(error.exit_code)
"""


def test_a_disk_that_really_takes_no_more(recipe: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    # The largest files are the optimizer's; the system refuses to let them grow beyond the weights' size.
    sizes = sorted(path.stat().st_size for path in whole.rglob("*.safetensors"))
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, json.dumps(recipe), str(run), str(sizes[-1] - 1)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("StorageError: ")
    assert "File too large" in done.stderr
    resume(run)
    same_runs(whole, run)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
