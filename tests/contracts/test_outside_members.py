"""Members from outside polytask: of an installed package, or of a folder; recorded in the run, and named when missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.errors import Unavailable, UserError
from polytask.registry import load_members

POOLING = """
from torch import Tensor

from polytask.heads.pooling.base import LayerPooling, poolings
from polytask.packing import EncoderOutput


@poolings.register("{name}")
class Second(LayerPooling):
    \"\"\"Half of the mean.\"\"\"

    def forward(self, output: EncoderOutput) -> Tensor:
        tokens = self.tokens(output)
        return 0.5 * tokens.sum() / tokens.lengths_N[:, None]
"""
TRAIN = """
import json, sys, polytask
members = sys.argv[3] or None
print(polytask.train(json.loads(sys.argv[1]), sys.argv[2], members=members))
"""
PREDICT = """
import sys, polytask
print(len(polytask.load(sys.argv[1], members=sys.argv[2] or None).predict("sentiment", ["a film"])))
"""
RESUME = """
import sys, polytask
polytask.resume(sys.argv[1], members=sys.argv[2] or None)
"""
Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def process(own_cache: Path) -> Process:
    def run(code: str, *arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        places = [str(path)] if path is not None else []
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([*places, *filter(None, sys.path)])}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def recipe_with(tiny: Callable[..., dict[str, Any]], pooling: str) -> str:
    recipe = tiny({"steps": 3, "batch_size": 10}, only=("sentiment",))
    recipe["tasks"]["sentiment"]["pooling"] = pooling
    return json.dumps(recipe)


def installed(folder: Path, name: str = "half") -> Path:
    """Lay an installed package out as pip would: a module, and metadata that names it as an entry point."""
    info = folder / "strangers_poolings-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers-poolings\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[polytask.members]\nhalf = strangers_poolings\n")
    (folder / "strangers_poolings.py").write_text(POOLING.format(name=name))
    return folder


def test_of_an_installed_package(tiny: Callable[..., dict[str, Any]], process: Process, tmp_path: Path) -> None:
    site, run = installed(tmp_path / "site"), tmp_path / "run"
    done = process(TRAIN, recipe_with(tiny, "half"), run, "", path=site)
    assert done.returncode == 0, done.stderr
    assert 'origin = "strangers-poolings 1.2"' in (run / "recipe.toml").read_text()
    assert process(PREDICT, run, "", path=site).stdout.strip() == "1"
    for code in (PREDICT, RESUME):
        alone = process(code, run, "")
        assert (
            "uses 'half' of the poolings, which came from strangers-poolings 1.2 and is not known here" in alone.stderr
        )
        assert "Install that package, or name the folder with 'members'." in alone.stderr
    listed = process("from polytask.cli.main import main; main()", "list", "poolings", path=site)
    assert "Half of the mean. [strangers-poolings 1.2]" in listed.stdout


def test_of_a_folder(tiny: Callable[..., dict[str, Any]], process: Process, tmp_path: Path) -> None:
    folder, run = tmp_path / "mine", tmp_path / "run"
    folder.mkdir()
    (folder / "poolings.py").write_text(POOLING.format(name="halved"))
    done = process(TRAIN, recipe_with(tiny, "halved"), run, folder)
    assert done.returncode == 0, done.stderr
    assert f'origin = "{folder}/poolings.py (' in (run / "recipe.toml").read_text()
    assert process(PREDICT, run, folder).stdout.strip() == "1"
    assert "which came from" in process(PREDICT, run, "").stderr
    shown = process("from polytask.cli.main import main; main()", "list", "poolings", "--members", folder)
    assert "halved" in shown.stdout


def test_two_of_one_name_are_both_named(process: Process, tmp_path: Path) -> None:
    done = process(
        "from polytask.heads.pooling.base import poolings; poolings.names()", path=installed(tmp_path, "mean")
    )
    assert (
        "Two of the poolings are called 'mean': Mean of polytask, and Second of strangers-poolings 1.2." in done.stderr
    )


def test_nothing_of_a_run_folder_is_imported(trained: Path, process: Process, tmp_path: Path) -> None:
    trap = tmp_path / "imported"
    (trained / "members.py").write_text(f"from pathlib import Path\nPath({str(trap)!r}).touch()\n")
    try:
        assert process(PREDICT, trained, "").stdout.strip() == "1"
        with pytest.raises(UserError, match="lies in the run folder"):
            load_members(trained)
    finally:
        (trained / "members.py").unlink()
    assert not trap.exists()


def test_a_folder_that_is_none_and_a_file_that_breaks_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.py file"):
        load_members(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(Unavailable, match=r"broken\.py .* cannot be imported: ZeroDivisionError: division by zero"):
        load_members(tmp_path)
