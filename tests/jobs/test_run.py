"""What training returns: a record that is also a path, and that opens without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.errors import RunFolderError
from polytask.inference.predictor import load
from polytask.jobs.run import Run
from polytask.jobs.train import train


def test_it_is_a_path_with_scores_and_a_model(tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run = train(tiny({"steps": 4, "batch_size": 10}), tmp_path / "run")
    assert os.fspath(run) == str(run) == str(tmp_path / "run")
    assert Path(run) == run.folder
    assert (run / "model.safetensors").is_file()
    assert set(run.scores) == {"sentiment", "paraphrase", "similarity"}
    assert run.scores["sentiment"].rows == 20
    assert run.aggregate is not None
    assert Run.open(run) == run
    texts = ["a film", "a story"]
    assert run.load().predict("sentiment", texts) == load(run).predict("sentiment", texts)
    assert run.load(checkpoint="last").weights.name != ""


def test_it_opens_without_torch(trained: Path) -> None:
    code = (
        "import sys\nfrom polytask.jobs.run import Run\nprint(Run.open(sys.argv[1]).finished, 'torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
    command = [sys.executable, "-c", code, str(trained)]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "True False\n"


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a run folder"):
        Run.open(tmp_path)
