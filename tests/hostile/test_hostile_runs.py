"""A run folder from a stranger is data, not code: it is read, or refused by name, and nothing else happens.

Each attack alters a finished run. ``predict`` and ``evaluate`` then end with exit code 2 and one sentence, or work as
if nothing were the matter; in no case is anything outside the folder read or written, or anything in it run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file

Polytask = Callable[..., Any]
Attack = Callable[[Path], object]

RECIPE, INDEX, ENCODER, TOKENIZER = "recipe.toml", "index.json", "encoder.json", "tokenizer.json"
HUGE = 10**12
DEEP = "[" * 100_000


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def predict(polytask: Polytask, run: Path, tables: Path, task: str = "sentiment") -> Any:
    return polytask("predict", run, tables / "sentiment-dev.csv", "--task", task, "--output", run.parent / "out.csv")


def assert_refused(said: Any, *told: str) -> None:
    assert (said.code, said.out) == (2, ""), said
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    for part in told:
        assert part in said.err, said.err


def best(run: Path) -> Path:
    index = json.loads((run / INDEX).read_text(encoding="utf-8"))
    return run / "weights" / f"{index['best']}.safetensors"


def write(name: str, content: bytes | str) -> Attack:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda run: (run / name).write_bytes(data)


def alter(name: str, **changes: object) -> Attack:
    """Changes keys of a JSON file."""

    def attack(run: Path) -> None:
        stated = json.loads((run / name).read_text(encoding="utf-8"))
        (run / name).write_text(json.dumps(stated | changes), encoding="utf-8")

    return attack


def recipe(change: Callable[[dict[str, Any]], object]) -> Attack:
    def attack(run: Path) -> None:
        tables = tomllib.loads((run / RECIPE).read_text(encoding="utf-8"))
        change(tables)
        (run / RECIPE).write_text(tomli_w.dumps(tables), encoding="utf-8")

    return attack


def renamed(name: str) -> Attack:
    return recipe(lambda tables: tables["tasks"].update({name: tables["tasks"].pop("paraphrase")}))


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Attack:
    def attack(run: Path) -> None:
        save_file(change(load_file(best(run))), best(run))

    return attack


def raw_weights(content: Callable[[bytes], bytes]) -> Attack:
    def attack(run: Path) -> None:
        best(run).write_bytes(content(best(run).read_bytes()))

    return attack


def safetensors(header: str) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode()


def pickled(run: Path) -> None:
    class RunsCode:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(run / "it-ran"), "w")

    torch.save({"x": RunsCode()}, best(run))


AUTO = {"architecture": "auto", "pooler": True, "vocabulary": 40}
BERT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 200}

ATTACKS: dict[str, tuple[Attack, tuple[str, ...]]] = {
    # -- the index -----------------------------------------------------------------------------------------------------
    "an index that climbs": (alter(INDEX, best="../../secret"), (INDEX, "'../../secret', which is not the name of")),
    "an index from the root": (alter(INDEX, best="/etc/passwd"), (INDEX, "'/etc/passwd'")),
    "an index of great depth": (write(INDEX, DEEP), (INDEX, "is not an index that polytask wrote")),
    "an index of nothing": (write(INDEX, ""), (INDEX, "is not an index that polytask wrote")),
    # -- the encoder ---------------------------------------------------------------------------------------------------
    "an encoder of nothing": (write(ENCODER, ""), (ENCODER, "is damaged")),
    "an encoder of great depth": (write(ENCODER, DEEP), (ENCODER, "is damaged")),
    "an encoder that is a list": (write(ENCODER, "[]"), (ENCODER, "not a JSON object")),
    "an encoder that is no text": (write(ENCODER, b"\xff"), (ENCODER, "is damaged")),
    "an unknown architecture": (alter(ENCODER, architecture="os.system"), (ENCODER, "'os.system' is not an architecture")),
    "an architecture that is a list": (alter(ENCODER, architecture=[1]), (ENCODER, "is not an architecture")),
    "layers beyond counting": (alter(ENCODER, layers=HUGE), (ENCODER, "'layers' is 1000000000000; wanted")),
    "layers in words": (alter(ENCODER, layers="2"), (ENCODER, "'layers' is '2'; wanted")),
    "a width beyond memory": (alter(ENCODER, width=HUGE), (ENCODER, "damaged")),
    "words beyond memory": (alter(ENCODER, vocabulary=10**9), (ENCODER, "parameters, unless the weights")),
    "positions beyond memory": (alter(ENCODER, positions=10**15), (ENCODER, "parameters, unless the weights")),
    "a width of nothing": (alter(ENCODER, width=-4), (ENCODER, "no encoder can be built")),
    "a width in words": (alter(ENCODER, width="32"), (ENCODER, "no encoder can be built")),
    "heads that do not divide": (alter(ENCODER, heads=5), (ENCODER, "cannot be divided among 5 heads")),
    "an unknown activation": (alter(ENCODER, activation="__import__('os')"), (ENCODER, "is none of gelu")),
    "a key too many": (alter(ENCODER, evil=1), (ENCODER, "'evil' is no part of what describes")),
    "an lstm beyond memory": (
        write(ENCODER, json.dumps({"architecture": "lstm", "vocabulary": 10, "hidden": 10**8})), (ENCODER, "damaged"),
    ),
    "a model's own code": (
        write(ENCODER, json.dumps({**AUTO, "config": {"model_type": "mine", "auto_map": {"AutoModel": "evil.Model"}}})),
        (ENCODER, "code that comes with a checkpoint is never run"),
    ),
    "a class by its name": (
        write(ENCODER, json.dumps({**AUTO, "config": {"model_type": "os.system"}})), (ENCODER, "'os.system' is unknown"),
    ),
    "a model of several": (
        write(ENCODER, json.dumps({**AUTO, "config": {**BERT, "text_config": {"auto_map": {}}}})), (ENCODER, "of its own"),
    ),
    "any model beyond memory": (
        write(ENCODER, json.dumps({**AUTO, "config": {**BERT, "vocab_size": 10**9}})), (ENCODER, "unless the weights"),
    ),
    "any model beyond counting": (
        write(ENCODER, json.dumps({**AUTO, "config": {**BERT, "num_hidden_layers": HUGE}})), (ENCODER, "wanted at most"),
    ),
    "any model without a config": (write(ENCODER, json.dumps({**AUTO, "config": "evil/repository"})), (ENCODER,)),
    "any model that is missing": (write(ENCODER, json.dumps(AUTO)), (ENCODER, "no encoder can be built as described")),
    # -- the tokenizer -------------------------------------------------------------------------------------------------
    "a tokenizer of nothing": (write(TOKENIZER, ""), (TOKENIZER, "is not a tokenizer.json")),
    "a tokenizer of great depth": (write(TOKENIZER, DEEP), (TOKENIZER, "is not a tokenizer.json")),
    "a tokenizer that is no text": (write(TOKENIZER, b"\xff\xfe"), (TOKENIZER, "cannot be read as text")),
    "a tokenizer of other words": (
        write(TOKENIZER, '{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0},'
              ' "unk_token": "a"}}'),
        (TOKENIZER, "do not belong together"),
    ),
    "a tokenizer of far ids": (
        write(TOKENIZER, '{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 4000000000},'
              ' "unk_token": "a"}}'),
        (TOKENIZER, "gives a word the id 4000000000"),
    ),
    # -- the recipe ----------------------------------------------------------------------------------------------------
    "a recipe of nothing": (write(RECIPE, ""), ("its recipe.toml was not written by a run",)),
    "a recipe of great depth": (write(RECIPE, "a = " + DEEP), (RECIPE, "is damaged")),
    "a recipe that is no text": (write(RECIPE, b"\xff\xfe"), (RECIPE, "is damaged")),
    "a task that climbs": (renamed("../../x"), ("tasks.../../x: a task's name is made of letters",)),
    "a task from the root": (renamed("/etc/x"), ("tasks./etc/x: a task's name is made of letters",)),
    "a task that is a folder": (renamed(".."), ("a task's name is made of letters",)),
    "a task that steers": (renamed("a\x1b[2J"), ("a task's name is made of letters",)),
    "a member of another module": (
        recipe(lambda tables: tables["tasks"]["sentiment"].update(head={"name": "os.system"})), ("'os.system' is not one of",),
    ),
    "a head beyond memory": (
        recipe(lambda tables: tables["tasks"]["sentiment"].update(head={"name": "mlp", "hidden": 10**9})),
        ("recipe.toml is damaged: it describes 38,000,0", "parameters; the weights hold"),
    ),
    "no resolved table": (recipe(lambda tables: tables.pop("resolved")), ("its recipe.toml was not written by a run",)),
    "a resolved table that is none": (recipe(lambda tables: tables.update(resolved=3)), ("was not written by a run",)),
    "settled options of no task": (
        recipe(lambda tables: tables["resolved"].update(settled={"../x": {"unit": 1.0}})), (RECIPE, "'settled' fits no task"),
    ),
    "settled options that there are not": (
        recipe(lambda tables: tables["resolved"].update(settled={"similarity": {"os.system": 1.0}})), ("'settled' fits no",),
    ),
    "settled options that are none": (recipe(lambda tables: tables["resolved"].update(settled=[3])), ("'settled' fits no",)),
    "a settled unit of nothing": (
        recipe(lambda tables: tables["resolved"].update(settled={"similarity": {"unit": 0.0}})), ("unit is 0",),
    ),
    "no task": (recipe(lambda tables: tables.update(tasks={})), ("tasks: is {}",)),
    # -- the weights ---------------------------------------------------------------------------------------------------
    "weights that run code": (pickled, ("is damaged",)),
    "weights cut short": (raw_weights(lambda data: data[: len(data) // 2]), ("is damaged",)),
    "weights of nothing": (raw_weights(lambda data: b""), ("damaged",)),
    "weights of no numbers": (
        raw_weights(lambda data: safetensors('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}') + data),
        ("is damaged",),
    ),
    "weights beyond the file": (
        raw_weights(lambda data: safetensors('{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,99999999999]}}') + data),
        ("is damaged",),
    ),
    "weights of another shape": (
        weights(lambda found: {name: torch.zeros(3) if name.endswith("norm.bias") else t for name, t in found.items()}),
        ("has the shape (3,) instead of (32,)",),
    ),
    "weights too few": (weights(lambda found: dict(list(found.items())[1:])), ("is missing from",)),
    "weights too many": (weights(lambda found: found | {"evil": torch.zeros(3)}), ("'evil' does not belong in",)),
}  # fmt: skip


UNSIGNED = [name for name, (_, told) in ATTACKS.items() if INDEX in told]


def sign(run: Path) -> None:
    """Put the altered files' hashes into the index, as whoever means harm would do."""
    index = json.loads((run / INDEX).read_text(encoding="utf-8"))
    index["hashes"] = {
        name: hashlib.sha256((run / name).read_bytes()).hexdigest()
        for name in index["hashes"]
        if (run / name).is_file()
    }
    (run / INDEX).write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_run_is_refused(polytask: Polytask, run: Path, tables: Path, name: str) -> None:
    attack, told = ATTACKS[name]
    if "model" in name or "class" in name:
        pytest.importorskip("transformers")
    (run / "evil.py").write_text(f"open({str(run / 'it-ran')!r}, 'w')\n", encoding="utf-8")
    attack(run)
    if name not in UNSIGNED:
        sign(run)
    started = time.perf_counter()
    assert_refused(predict(polytask, run, tables), *told)
    data = ("--task", "sentiment", "--data", tables / "sentiment-dev.csv")
    assert_refused(polytask("evaluate", run, *data), *told)
    assert time.perf_counter() - started < 10
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]
    assert not (run / "it-ran").exists()


# -- links -------------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        RECIPE,
        INDEX,
        ENCODER,
        TOKENIZER,
        "weights",
        "state",
        "predictions",
        "journal.jsonl",
        "model.safetensors",
        ".lock",
    ],
)
def test_what_leads_out_of_a_run_folder_is_not_opened(polytask: Polytask, run: Path, tables: Path, name: str) -> None:
    outside = run.parent / "outside"
    outside.mkdir()
    if (run / name).exists():
        (run / name).rename(outside / name)
    else:
        (outside / name).touch()
    (run / name).symlink_to(outside / name)
    before = contents(outside)
    data = ("--task", "sentiment", "--data", tables / "sentiment-dev.csv")
    for command in (("evaluate", run), ("evaluate", run, *data), ("resume", run)):
        assert_refused(polytask(*command), str(run / name), "leads out of the run folder")
    assert_refused(predict(polytask, run, tables), "leads out of the run folder")
    assert contents(outside) == before


def test_a_link_below_that_leads_out_is_not_followed(polytask: Polytask, run: Path, tables: Path) -> None:
    file = best(run)
    file.rename(run.parent / "outside.safetensors")
    file.symlink_to("../../outside.safetensors")
    assert_refused(predict(polytask, run, tables), str(file), "leads out of the run folder")


@pytest.mark.parametrize("name", [INDEX, ENCODER, TOKENIZER, "journal.jsonl"])
def test_a_pipe_in_a_run_folder_is_not_waited_for(polytask: Polytask, run: Path, tables: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    assert_refused(predict(polytask, run, tables), str(run / name), "is neither a file nor a folder")


def test_links_within_a_run_folder_are_fine(polytask: Polytask, run: Path, tables: Path) -> None:
    (run / "weights").rename(run / "kept")
    (run / "weights").symlink_to("kept")
    (run / "loop").symlink_to("loop")
    run.rename(run.parent / "moved")
    run.symlink_to("moved")
    assert predict(polytask, run, tables).code == 0


# -- what is touched ---------------------------------------------------------------------------------------------------

EVENTS = ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "exec", "compile")
_seen: list[tuple[str, str]] = []
_watching: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in EVENTS:
        _seen.append((event, str(arguments[0])))


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Notes every file that Python opens, every connection and every process."""
    if not hasattr(sys, "_polytask_watched"):
        sys.addaudithook(_hook)
        sys._polytask_watched = True  # type: ignore[attr-defined]
    _seen.clear()
    _watching.append(True)
    try:
        yield _seen
    finally:
        _watching.clear()


def test_the_watch_sees_what_is_opened(tmp_path: Path) -> None:
    with watched() as seen:
        (tmp_path / "x").write_text("x", encoding="utf-8")
    assert ("open", str(tmp_path / "x")) in seen


def test_predicting_touches_nothing_but_the_folder_and_the_table(
    polytask: Polytask, run: Path, tables: Path, tmp_path: Path
) -> None:
    """Its recipe may name any table and any checkpoint of this machine, or of the hub: nobody looks there."""
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.copy(tables / "sentiment-train.csv", secret)
    (secret / "bert").mkdir()
    (secret / "bert" / "config.json").write_text("{}", encoding="utf-8")

    def point_elsewhere(stated: dict[str, Any]) -> None:
        stated["encoder"] = {"checkpoint": str(secret / "bert"), "architecture": "auto"}
        stated["data"] = str(secret)
        stated["tasks"]["sentiment"] |= {"train": str(secret / "sentiment-train.csv"), "dev": "/etc/passwd"}
        stated["tasks"]["paraphrase"] |= {"train": "hub:evil/rows:train", "dev": "hub:evil/rows:dev"}
        stated["tasks"]["similarity"] |= {"train": "../../../etc/passwd"}

    assert predict(polytask, run, tables).code == 0
    wanted = (tmp_path / "out.csv").read_bytes()
    (tmp_path / "out.csv").unlink()
    recipe(point_elsewhere)(run)
    sign(run)
    data = ("--task", "sentiment", "--data", tables / "sentiment-dev.csv")
    with watched() as seen:
        said = predict(polytask, run, tables)
        scored = polytask("evaluate", run, *data)
    assert (said.code, scored.code) == (0, 0), (said, scored)
    assert (tmp_path / "out.csv").read_bytes() == wanted
    assert not [event for event in seen if event[0] not in ("open", "exec", "compile")]
    opened = {path for event, path in seen if event == "open" and os.path.isabs(path)}
    mine = (run, tables / "sentiment-dev.csv", tmp_path / "out.csv", tmp_path / ".out.csv")
    libraries = (
        sys.prefix,
        sys.base_prefix,
        Path(__file__).parents[2] / "src",
        os.environ["POLYTASK_CACHE"],
        "/proc",
        "/dev",
    )
    known = tuple(map(str, (*mine, *libraries)))
    assert [path for path in opened if not path.startswith(known)] in ([], [str(tmp_path)])  # synced, for out.csv in it
    assert not any("secret" in path or "passwd" in path for path in opened)


def test_a_recipe_of_a_run_keeps_its_choices_beside_a_checkpoint(polytask: Polytask, run: Path, tables: Path) -> None:
    """A run that was started from a checkpoint is not refused for the defaults that its recipe spells out."""
    recipe(lambda stated: stated.update(encoder={"checkpoint": "gone", "architecture": "bert"}))(run)
    sign(run)
    assert predict(polytask, run, tables).code == 0
