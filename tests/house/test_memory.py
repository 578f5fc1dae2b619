"""However long a table is, what is in memory of it is not: the peaks of processes that read a short one and a long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from polytask.jobs.train import train

# Not getrusage: what it tells of a new process begins with its parent's peak.
PEAK = """
import sys
from pathlib import Path
{work}
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
READ = """
from polytask.data import tokens
from polytask.data.tables import cells
from polytask.data.tables.examples import read_examples
from polytask.data.tokens import Tokenizer, tokenize
from polytask.runtime.cache import cache_folder
cells.IN_MEMORY, tokens._CHUNK_CHARACTERS = 2**20, 2**18
tokenizer = Tokenizer.from_texts(["a word"], 10)
data = read_examples(sys.argv[1], ["text"], "label", None, "stop")
column = tokenize(data.texts[0], tokenizer, cache_folder())
assert len(column) == len(data) == int(sys.argv[2])
"""
PREDICT = """
from polytask.data.tables import cells
from polytask.inference import predictor
cells.IN_MEMORY = 2**20
predictor.CHUNK = 200
run = predictor.load(sys.argv[3])
assert run.predict_table("t", sys.argv[1], Path(sys.argv[1] + ".out")) == int(sys.argv[2])
"""
MEGABYTE = 10**6

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")


def peak(work: str, *arguments: object, cache: Path) -> int:
    """Return the most memory, in MB, that a process of its own took for some work."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK.replace("{work}", work), *map(str, arguments)],
        env=os.environ | {"POLYTASK_CACHE": str(cache), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) // 1024


def table(path: Path, megabytes: float, row: str, head: str = "id,text,label,notes\n") -> tuple[Path, int]:
    count = int(megabytes * MEGABYTE / (len(row) + 8))
    with path.open("w", encoding="utf-8") as file:
        file.write(head)
        file.writelines(f"{n:07},{row}\n" for n in range(count))
    return path, count


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    rows = [{"text": f"word {n}", "label": str(n % 2)} for n in range(8)]
    task = {"kind": "classification", "train": rows, "text": "text", "label": "label", "max_length": 16}
    encoder = {"layers": 1, "width": 16, "heads": 2, "hidden": 16}
    recipe = {"device": "cpu", "precision": "float32", "encoder": encoder, "tasks": {"t": task}}
    return train(recipe | {"stages": [{"steps": 1, "batch_size": 4}]}, tmp_path_factory.mktemp("memory") / "run").folder


def test_reading_and_tokenising_does_not_grow_with_the_table(tmp_path: Path) -> None:
    row = "unusuallylongwordsmakefewtokensoftext " * 10 + ",1,note"
    short, long = (peak(READ, *table(tmp_path / f"{m}.csv", m, row), cache=tmp_path / "cache") for m in (2, 16))
    assert long - short < 8


def test_columns_that_nobody_asks_for_take_no_memory(tmp_path: Path) -> None:
    row = "a word,1," + "note " * 20_000
    short, long = (peak(READ, *table(tmp_path / f"{m}.csv", m, row), cache=tmp_path / "cache") for m in (4, 40))
    assert long - short < 15


def test_predicting_does_not_grow_with_the_table(tmp_path: Path, run: Path) -> None:
    row = "unusuallylongwordsmakefewtokensoftext " * 300 + ",1,note"
    short, long = (peak(PREDICT, *table(tmp_path / f"{m}.csv", m, row), run, cache=tmp_path / "cache") for m in (2, 16))
    assert long - short < 8
    assert not (tmp_path / "cache" / "tokens").exists()  # what is predicted once is not kept
