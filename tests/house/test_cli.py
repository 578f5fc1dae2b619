"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.cli.progress import Terminal
from polytask.recipe.reading import parse_recipe
from polytask.recipe.toml import to_toml
from polytask.run.events import StepResult

Tiny = Callable[..., dict[str, Any]]

SCRIPT = str(Path(sys.executable).parent / "polytask")
COMMANDS = [
    "quickstart",
    "init",
    "show",
    "train",
    "resume",
    "verify-resume",
    "evaluate",
    "predict",
    "list",
    "schema",
    "weights",
]


Said = Any
"""Exit code, output and errors of a command, as the fixture `polytask` returns them."""
Polytask = Callable[..., Said]


def subprocess_of(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, **options)


@pytest.fixture
def recipe(tiny: Tiny, tmp_path: Path) -> Path:
    """A recipe file."""
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(parse_recipe(tiny(), "tiny")), encoding="utf-8")
    return path


def assert_one_sentence(said: Said, code: int, *parts: str) -> None:
    assert said.code == code, said
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.startswith("error: ")
    for part in parts:
        assert part in said.err


# -- the road from a recipe to predictions ---------------------------------------------------------------------------


def test_train_evaluate_predict(polytask: Polytask, recipe: Path, tables: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = polytask("train", recipe, "--out", run, "--set", "stages.0.epochs=1", "--set", "tasks.sentiment.head=mlp")
    assert said.code == 0, said.err
    assert f"polytask evaluate {run}" in said.out
    assert "epoch 1: sentiment accuracy" in said.err
    assert "(best so far)" in said.err
    said = polytask("evaluate", run, "--json")
    assert said.code == 0
    result = json.loads(said.out)
    assert list(result) == ["tasks", "aggregate"]
    assert result["tasks"]["sentiment"]["rows"] == 20
    assert list(result["tasks"]["similarity"]) == ["rows", "pearson", "spearman", "mse", "swap_gap", "swap_gap_max"]
    data = ("--task", "sentiment", "--data", tables / "sentiment-dev.csv")
    again = json.loads(polytask("evaluate", run, *data, "--json").out)
    assert again["tasks"] == {"sentiment": result["tasks"]["sentiment"]}
    assert again["aggregate"] == result["tasks"]["sentiment"]["accuracy"]
    shown = polytask("evaluate", run, "--split", "train", "--checkpoint", "best-similarity")
    assert shown.code == 0
    assert all(word in shown.out for word in ("sentiment", "accuracy", "pearson", "aggregate", "60"))
    for format in ("csv", "jsonl", "cs224n"):
        out = tmp_path / f"out.{format}"
        said = polytask(
            "predict", run, "--task", "sentiment", tables / "sentiment-dev.csv", "--output", out, "--format", format
        )
        assert said == (0, f"Wrote 20 predictions to {out}.\n", "")
        lines = out.read_text(encoding="utf-8").splitlines()
        assert len(lines) == {"csv": 21, "jsonl": 20, "cs224n": 21}[format]
    parquet = pytest.importorskip("pyarrow.parquet")
    given = (
        "predict",
        run,
        "--task",
        "similarity",
        tables / "similarity-dev.csv",
        "--output",
        tmp_path / "out.parquet",
    )
    assert polytask(*given, "--format", "parquet").code == 0
    assert parquet.read_table(tmp_path / "out.parquet").column_names == ["id", "prediction"]
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()[0]).keys() == {
        "id",
        "prediction",
        "probabilities",
    }
    table = tmp_path / "own.csv"
    table.write_text("a,b\nOne man,A man\n", encoding="utf-8")
    options = ("--text", "a", "--text", "b", "--output", tmp_path / "own.out")
    assert polytask("predict", run, table, "--task", "paraphrase", *options).code == 0
    with (tmp_path / "own.out").open(encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["1"]
    assert polytask("resume", run).code == 0  # finished: nothing to do


def test_a_dry_run_writes_nothing_and_says_how_long_it_would_take(
    polytask: Polytask, recipe: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    said = polytask("train", recipe, "--out", tmp_path / "run", "--dry-run")
    assert said.code == 0, said.err
    assert sorted(tmp_path.rglob("*")) == before
    assert re.search(r"Stage 1: 36 steps, about \d+ s\.", said.out)
    assert re.search(r"The whole run would take about .*parameters, float32", said.out)


def test_init_writes_a_recipe_that_trains(
    polytask: Polytask, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = polytask(
        "init", *(tables / f"{task}-{split}.csv" for task in ("sentiment", "paraphrase") for split in ("train", "dev"))
    )
    assert said.code == 0, said.err
    assert "polytask train recipe.toml" in said.out
    text = (tmp_path / "recipe.toml").read_text(encoding="utf-8")
    new = text.replace('checkpoint = "minilm"', "layers = 1\nwidth = 16\nheads = 2\nhidden = 16")
    (tmp_path / "recipe.toml").write_text(new, encoding="utf-8")
    said = polytask("train", "recipe.toml", "--out", "run", "--set", "stages.0.steps=2", "--set", "stages.0.epochs=1")
    assert_one_sentence(said, 2, "'epochs' or 'steps', not both")
    said = polytask("train", "recipe.toml", "--out", "run", "--set", "stages.0.epochs=1")
    assert said.code == 0, said.err
    assert json.loads(polytask("evaluate", "run", "--json").out)["tasks"].keys() == {"sentiment", "paraphrase"}
    assert_one_sentence(polytask("init", tables / "sentiment-train.csv"), 2, "recipe.toml already exists")


def test_show_prints_every_default_of_a_valid_recipe(polytask: Polytask, recipe: Path, tmp_path: Path) -> None:
    said = polytask("show", recipe, "--set", "tasks.sentiment.head.layers=3", "--set", "tasks.sentiment.head.name=mlp")
    assert said.code == 0, said.err
    assert "layers = 3" in said.out
    assert "schedule" in said.out
    assert "weight_decay = 0.01" in said.out
    (tmp_path / "again.toml").write_text(said.out, encoding="utf-8")
    assert polytask("show", tmp_path / "again.toml").out == said.out
    assert polytask("show", "cs224n").code == 0


# -- what there is ---------------------------------------------------------------------------------------------------


def test_show_says_who_owns_an_encoder_and_whose_order_does_not_count(
    polytask: Polytask, recipe: Path, tmp_path: Path
) -> None:
    choices = ["tasks.similarity.symmetric.consistency=0.5", "tasks.sentiment.encoder=own"]
    said = polytask("show", recipe, *(part for choice in choices for part in ("--set", choice)))
    assert said.code == 0
    tasks = tomllib.loads(said.out)["tasks"]
    assert [task["encoder"] for task in tasks.values()] == ["own", "shared", "shared"]
    assert [task["symmetric"] for task in tasks.values()] == [False, False, {"consistency": 0.5}]
    wrong = polytask("show", recipe, "--set", "tasks.sentiment.symmetric=true")
    assert_one_sentence(wrong, 2, "tasks.sentiment.symmetric", "has no order")


def test_evaluate_shows_the_swap_gap_of_pairs(polytask: Polytask, trained: Path) -> None:
    scores = json.loads(polytask("evaluate", trained, "--json").out)["tasks"]
    assert ["swap_gap" in values and "swap_gap_max" in values for values in scores.values()] == [False, True, True]
    assert polytask("evaluate", trained).out.count("swap_gap_max") == 2


def test_list_prints_every_member_with_a_line(polytask: Polytask) -> None:
    said = polytask("list")
    assert said.code == 0
    for name in (
        "classification",
        "cls",
        "linear",
        "joint",
        "fixed",
        "pcgrad",
        "rdrop",
        "abs_difference",
        "sst5",
        "cs224n",
    ):
        assert re.search(rf"^  {name} +\S", said.out, re.MULTILINE), name
    for room in ("aggregators", "aggregator", "pair-features", "mixing", "presets", "metrics", "aggregate", "formats"):
        assert polytask("list", room).code == 0, room
    assert "``" not in said.out
    assert "``" not in polytask("list", "heads", "mlp").out
    poolings = polytask("list", "poolings").out.splitlines()[1:]
    assert len({len(line) - len(line[2:].partition(" ")[2].lstrip()) for line in poolings}) == 1  # one column
    only = polytask("list", "aggregators").out
    assert "pcgrad" in only
    assert "classification" not in only
    described = polytask("list", "heads", "mlp").out
    assert all(
        line in described for line in ("  layers = 1  (whole number)", '  activation = "relu"  ("relu" or "gelu")')
    )
    assert_one_sentence(polytask("list", "heads", "mpl"), 2, "'mpl' is not one of the heads", "Did you mean 'mlp'")
    assert_one_sentence(polytask("list", "agregators"), 2, "no room 'agregators'", "Did you mean 'aggregators'")


def test_schema_prints_json(polytask: Polytask) -> None:
    assert json.loads(polytask("schema").out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_weights_are_listed_and_missing_ones_named(polytask: Polytask) -> None:
    said = polytask("weights", "list")
    assert said.code == 0
    assert "minilm" in said.out
    assert "not fetched yet" in said.out
    missing = polytask("weights", "path", "minilm")
    assert missing.code in (1, 2)
    assert missing.err.startswith("error: ")


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS), *(["weights", c] for c in ("get", "list", "path"))]
)
def test_every_command_explains_itself(polytask: Polytask, command: list[str]) -> None:
    said = polytask(*command, "--help")
    assert said.code == 0
    assert said.err == ""
    assert "Usage: polytask" in said.out
    if not command:
        assert all(re.search(rf"^\W*{name}\b", said.out, re.MULTILINE) for name in COMMANDS)
        assert "130 interrupted" in " ".join(said.out.split())


# -- errors ----------------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_a_recipe_is_code_2(polytask: Polytask, recipe: Path, tables: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    assert_one_sentence(
        polytask("train", tmp_path / "recip.toml", *out), 2, "There is no recipe", "Did you mean 'recipe.toml'"
    )
    assert_one_sentence(
        polytask("train", recipe, *out, "--set", "sed=1"), 2, "sed: there is no such key", "Did you mean 'seed'"
    )
    assert_one_sentence(polytask("train", recipe, *out, "--set", "seed"), 2, "An override is KEY=VALUE")
    aggregator = ("--set", "stages.0.aggregator=pcgrad")
    assert_one_sentence(polytask("train", recipe, *out, *aggregator), 2, "puts one task in a step", 'mixing = "joint"')
    label = ("--set", "tasks.sentiment.label=mood")
    assert_one_sentence(polytask("train", recipe, *out, *label), 2, "has no column 'mood'")
    (tmp_path / "broken.toml").write_text("[tasks", encoding="utf-8")
    assert_one_sentence(polytask("show", tmp_path / "broken.toml"), 2, "is not TOML")
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_with_a_run_or_an_argument_is_code_2(
    polytask: Polytask, recipe: Path, trained: Path, tables: Path, tmp_path: Path
) -> None:
    assert_one_sentence(polytask("evaluate", tmp_path / "none", "--json"), 2, "There is no run folder")
    assert_one_sentence(polytask("resume", tmp_path), 2, "it holds no index.json")
    assert_one_sentence(polytask("resume", tables), 2, "is not a run folder")
    assert_one_sentence(polytask("train", recipe, "--out", trained), 2, "already exists and is not empty")
    table = tables / "sentiment-dev.csv"
    assert_one_sentence(polytask("evaluate", trained, "--data", table), 2, "--data needs --task")
    to = ("--output", tmp_path / "out")
    assert_one_sentence(polytask("predict", trained, table, "--task", "sentimet", *to), 2, "Did you mean 'sentiment'")
    assert_one_sentence(
        polytask("predict", trained, tmp_path / "no.csv", "--task", "sentiment", *to), 2, "does not exist"
    )
    assert_one_sentence(polytask("evaluate", trained, "--checkpoint", "worst"), 2, "no checkpoint 'worst'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train"],
        ["train", "recipe.toml"],
        ["train", "recipe.toml", "--out", "run", "--epochs", "3"],
        ["evaluate", "run", "--split", "test"],
        ["predict", "run", "file.csv", "--task", "t", "--output", "o", "--format", "xml"],
        ["weights"],
        [],
    ],
)
def test_a_command_that_is_typed_wrong_is_code_2(polytask: Polytask, arguments: list[str]) -> None:
    said = polytask(*arguments)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert "Usage: polytask" in said.out + said.err


def test_a_loss_that_is_not_finite_is_code_1(polytask: Polytask, recipe: Path, tmp_path: Path) -> None:
    wild = ("--set", "stages.0.learning_rate=1e30", "--set", "stages.0.schedule=constant", "--set", "stages.0.clip=0")
    said = polytask("train", recipe, "--out", tmp_path / "run", *wild)
    assert said.code == 1, said.err
    assert "not finite" in said.err or "not a finite number" in said.err
    assert "Traceback" not in said.err


def test_debug_shows_where_an_error_comes_from(polytask: Polytask, tmp_path: Path) -> None:
    done = subprocess_of("evaluate", tmp_path / "none", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "There is no run folder" in done.stderr


def test_what_nobody_foresaw_is_one_sentence_too(polytask: Polytask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, Any]:
        raise ZeroDivisionError("a surprise")

    monkeypatch.setattr("polytask.recipe.schema.recipe_schema", fail)
    assert_one_sentence(polytask("schema"), 1, "ZeroDivisionError: a surprise", "--debug")


# -- real processes --------------------------------------------------------------------------------------------------


def test_a_process_that_is_asked_to_stop_says_how_to_go_on(recipe: Path, tmp_path: Path, own_cache: Path) -> None:
    run = tmp_path / "run"
    command = [SCRIPT, "train", str(recipe), "--out", str(run), "--set", "stages.0.epochs=1000"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(
        command, env=os.environ | threads, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("epoch 1:"):
                child.send_signal(signal.SIGINT)
                break
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert f"error: Stopped by SIGINT. Go on with: polytask resume {run}" in err
    assert out == ""
    assert "Traceback" not in err


def test_the_command_is_installed_and_its_errors_go_to_standard_error(tmp_path: Path) -> None:
    done = subprocess_of("resume", tmp_path / "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: There is no run folder {tmp_path / 'none'}.\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{SCRIPT} schema | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_ctrl_c_twice_ends_at_once_with_one_sentence(
    polytask: Polytask, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def interrupt_twice(terminal: Terminal, step: int, result: StepResult) -> None:
        taken.append(step)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Terminal, "step", interrupt_twice)
    said = polytask("train", recipe, "--out", tmp_path / "run")
    assert said.code == 130
    assert said.err.endswith(
        "error: Stopped at once. A run that had begun is as at its last checkpoint: polytask resume RUN.\n"
    )
    assert "Traceback" not in said.err
    assert signal.getsignal(signal.SIGINT) is before
    assert taken == [1, 2, 3]
    assert polytask("resume", tmp_path / "run").code == 0
    assert taken[3] == 1  # nothing had been saved yet


def test_ctrl_c_before_the_first_step_leaves_nothing(
    polytask: Polytask, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("polytask.assembly.parts.new_model", interrupt)
    said = polytask("train", recipe, "--out", tmp_path / "run")
    assert said.code == 130
    assert not (tmp_path / "run").exists()


def test_verify_resume_says_what_it_did(polytask: Polytask, recipe: Path) -> None:
    said = polytask("verify-resume", recipe, "--steps", 4, "--kills", 1)
    assert said.code == 0, said.err
    assert re.search(r"Killed 1 time \(0 while .*\), \d+ steps? were taken again in a run of 4", said.out)
    assert "Identical to the uninterrupted run, bit for bit: " in said.out
