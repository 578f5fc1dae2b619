"""Two processes, as torchrun starts them, train the weights of one; one of them speaks, and both resume."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from polytask.jobs.run import Run
from polytask.jobs.train import train
from polytask.recipe.load import load_recipe
from polytask.recipe.toml import to_toml
from polytask.run.journal import read_journal

Tiny = Callable[..., dict[str, Any]]
STOP = """
import json, sys, polytask
from polytask.run.listen import Watcher
from polytask.runtime.processes import join

class At(Watcher):
    def step(self, step, result):
        if step == 3:
            import os, signal
            os.kill(os.getpid(), signal.SIGINT)

try:
    polytask.train(json.loads(sys.argv[1]), sys.argv[2], listeners=[At()])
except polytask.Interrupted:
    pass
"""


def torchrun(*arguments: object, processes: int = 2) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--nproc-per-node", str(processes), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path))),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    command = [sys.executable, "-m", "torch.distributed.run", *place, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


JOINT = {
    "steps": 6,
    "batch_size": 10,
    "micro_batch": 3,
    "learning_rate": 1e-3,
    "mixing": "joint",
    "aggregator": "pcgrad",
    "regularizers": [{"name": "smart", "radius": "unit"}],
    "evaluate_every": 3,
}
PROPORTIONAL = {"steps": 8, "batch_size": 10, "micro_batch": 5, "learning_rate": 1e-3, "evaluate_every": 4}


def assert_close(one: Run, other: Path) -> None:
    """Check that weights are equal to rounding.

    Where a gradient is nothing but rounding (of a bias of keys it is 0), Adam makes a share of the rate of it: a few
    numbers in a thousand may be off by that.
    """
    wanted, found = (load_file(run / "model.safetensors") for run in (one, other))
    assert wanted.keys() == found.keys()
    off = torch.cat([(found[name] - tensor).abs().flatten() for name, tensor in wanted.items()])
    assert (off > 1e-5).double().mean() < 2e-3
    assert off.max() < 1e-3


@pytest.mark.parametrize("stage", [JOINT, PROPORTIONAL], ids=["joint, pcgrad, smart, accumulation", "proportional"])
def test_two_processes_train_the_weights_of_one(tiny: Tiny, tmp_path: Path, stage: Mapping[str, Any]) -> None:
    recipe = tiny(stage)
    alone = train(recipe, tmp_path / "alone")
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(load_recipe(recipe).recipe), encoding="utf-8")
    done = torchrun("-m", "polytask", "train", file, "--out", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Done. The run lies in") == 1
    assert done.stderr.count("aggregate") == 2  # an evaluation is told once
    assert_close(alone, tmp_path / "both")
    journals = [read_journal(Path(run) / "journal.jsonl") for run in (alone, tmp_path / "both")]
    assert [event["event"] for event in journals[0]] == [event["event"] for event in journals[1]]
    for one, other in zip(*journals, strict=True):
        if one["event"] == "step":
            assert other["losses"] == pytest.approx(one["losses"], rel=1e-4)
            assert other["rows"] == one["rows"]


def test_without_micro_batches_each_process_has_its_share_of_every_task(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({"steps": 4, "batch_size": 10, "learning_rate": 1e-3, "mixing": "joint"}, drop=0.0)
    alone, both = train(recipe, tmp_path / "alone"), tmp_path / "both"
    code = "import json, sys, polytask; polytask.train(json.loads(sys.argv[1]), sys.argv[2])"
    script = tmp_path / "script.py"
    script.write_text(code)
    done = torchrun(script, json.dumps(recipe), both)
    assert done.returncode == 0, done.stderr
    assert_close(alone, both)


def test_they_resume(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(PROPORTIONAL)
    script, whole, run = tmp_path / "script.py", tmp_path / "whole", tmp_path / "run"
    script.write_text(STOP)
    assert torchrun(script, json.dumps(recipe), run).returncode == 0
    assert not (run / "model.safetensors").exists()
    script.write_text("import sys, polytask; polytask.resume(sys.argv[1])")
    done = torchrun(script, run)
    assert done.returncode == 0, done.stderr
    script.write_text("import json, sys, polytask; polytask.train(json.loads(sys.argv[1]), sys.argv[2])")
    assert torchrun(script, json.dumps(recipe), whole).returncode == 0
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_ranking_task_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({"steps": 2, "batch_size": 10}, only=("paraphrase",))
    recipe["tasks"]["pairs"] = {"kind": "ranking", "rows_from": "paraphrase", "pooling": "mean"}
    script = tmp_path / "script.py"
    script.write_text("import json, sys, polytask; polytask.train(json.loads(sys.argv[1]), sys.argv[2])")
    done = torchrun(script, json.dumps(recipe), tmp_path / "run")
    assert done.returncode, done.stdout
    assert "which 2 processes would split; train this task in one process" in done.stderr
    assert not (tmp_path / "run").exists()
