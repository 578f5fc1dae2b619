"""Whether two checkouts of polytask train the same: weights by hash, the journal by content.

    python benchmarks/neutrality.py OLD NEW

Each recipe is trained by both, each in a process of its own with the checkout's ``src`` first on the path. Recipes hold
every member of every open room that both know, and what is hard to keep: three stages, surgery, accumulation, encoders of
tasks' own, pretraining, symmetric pairs, averages, early stopping. Clocks do not count; scores are compared to 1e-12.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from polytask.starter.examples import TABLES

TRAIN = "import json, sys, polytask; polytask.train(json.loads(sys.argv[1]), sys.argv[2])"
JOINT: dict[str, Any] = {"steps": 4, "batch_size": 10, "learning_rate": 1e-3, "mixing": "joint", "evaluate_every": 2}
CLOCKS = ("seconds",)


def recipe(*stages: Mapping[str, Any], **tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe of three tasks on polytask's own examples with a tiny new encoder; ``tasks`` change or add some."""
    rows = {name: rows_of("train", 0)[:60] for name, rows_of in TABLES.items()}
    dev = {name: rows_of("dev", 0)[:20] for name, rows_of in TABLES.items()}
    pair = ["sentence1", "sentence2"]
    settings: dict[str, dict[str, Any]] = {
        "sentiment": {"kind": "classification", "text": "sentence", "label": "sentiment"},
        "paraphrase": {"kind": "binary", "text": pair, "label": "is_duplicate"},
        "similarity": {
            "kind": {"name": "regression", "range": [0.0, 5.0]},
            "text": pair,
            "label": "similarity",
            "pair": "bi",
            "pooling": "mean",
        },
    }
    for name, task in settings.items():
        task |= {"train": rows[name], "dev": dev[name]}
    for name, changes in tasks.items():
        settings[name] = settings.get(name, {}) | dict(changes)
    return {
        "device": "cpu",
        "precision": "float32",
        "encoder": {"layers": 2, "width": 32, "heads": 2, "hidden": 64},
        "tasks": settings,
        "stages": [dict(stage) for stage in stages or (JOINT,)],
    }


def recipes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each recipe with its name."""
    for name in (
        "sum",
        "mean",
        "pcgrad",
        "gradvac",
        "cagrad",
        "mgda",
        "upgrad",
        "imtl_g",
        "aligned_mtl",
        "fairgrad",
        "nash_mtl",
    ):
        yield f"aggregator {name}", recipe(JOINT | {"aggregator": name})
    for name in ("fixed", "uncertainty", "dwa", "famo", "mean"):
        yield f"balance {name}", recipe(JOINT | {"balance": name})
    for name in ("proportional", "round_robin", "sequential", "temperature", "annealed", "joint"):
        yield f"mixing {name}", recipe(JOINT | {"mixing": name, "steps": 9})
    for name in ("smart", "bregman", "rdrop"):
        yield f"regularizer {name}", recipe(JOINT | {"aggregator": "pcgrad", "micro_batch": 4, "regularizers": [name]})
    for name in ("attention", "cls", "dot_attention", "first", "max", "mean", "multiplicative_attention"):
        yield f"pooling {name}", recipe(sentiment={"pooling": name}, similarity={"pooling": name})
    for name in ("abs_difference", "difference", "euclidean", "manhattan", "product", "squared_sum", "sum"):
        yield (
            f"pair feature {name}",
            recipe(similarity={"pair": {"name": "bi", "features": ["u", name], "dropout": 0.1}}),
        )
    yield "head mlp, projection", recipe(sentiment={"head": {"name": "mlp", "layers": 2}, "projection": {"layers": 2}})
    yield (
        "head cosine",
        recipe(
            similarity={
                "kind": {"name": "regression", "range": [0.0, 5.0], "output": "cosine"},
                "head": "cosine",
                "pair": {"name": "bi", "features": ["cosine"]},
            }
        ),
    )
    for method in ("corn", "coral"):
        yield f"ordinal {method}", recipe(sentiment={"kind": {"name": "ordinal", "method": method}})
    yield "augmented, resampled", recipe(sentiment={"augment": {"name": "eda", "copies": 1}, "resample": "over"})
    words, ranked = (
        {"kind": "mlm", "rows_from": ["sentiment", "paraphrase"], "dev": 0.2},
        {"kind": "ranking", "pooling": "mean"},
    )
    yield (
        "pretraining",
        recipe(
            {"steps": 4, "batch_size": 10, "tasks": ["words", "pairs"], "mixing": "joint"},
            JOINT | {"tasks": ["sentiment", "paraphrase"], "aggregator": "pcgrad"},
            words=words,
            pairs=ranked | {"rows_from": {"task": "paraphrase", "label": "1"}},
        ),
    )
    yield (
        "three stages, own encoder, symmetric, average",
        recipe(
            {"steps": 3, "batch_size": 10, "train": "heads", "learning_rate": 1e-2},
            JOINT
            | {"aggregator": "pcgrad", "micro_batch": 3, "regularizers": ["smart"], "average": 0.9, "layer_decay": 0.9},
            JOINT
            | {
                "steps": 6,
                "train": {"last": 1},
                "early_stopping": {"patience": 1},
                "tasks": ["paraphrase", "similarity"],
            },
            sentiment={"encoder": "own", "weight": 2.0, "learning_rate": 1e-3},
            paraphrase={"symmetric": True},
            similarity={"symmetric": {"consistency": 0.5}},
        ),
    )
    yield "lstm", recipe() | {"encoder": {"architecture": "lstm", "width": 16, "hidden": 12}}


def trained(checkout: Path, made: Mapping[str, Any], run: Path) -> Path:
    """Train a recipe with a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-c", TRAIN, json.dumps(made), str(run)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout} cannot train it: {done.stderr.strip().splitlines()[-1]}")
    return run


def weights_of(run: Path) -> dict[str, str]:
    """Return the hash of every tensor of the joint best and of the last checkpoint."""
    last = json.loads((run / "index.json").read_text())["last"]
    files = {"best": run / "model.safetensors", "last": run / "weights" / f"{last}.safetensors"}
    return {
        f"{which} {name}": hashlib.sha256(tensor.tobytes()).hexdigest()
        for which, file in files.items()
        for name, tensor in load_file(file).items()
    }


def journal_of(run: Path) -> list[dict[str, Any]]:
    """Return a journal's events without clocks; counts of rows under the name that they have today."""
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    for event in events:
        for clock in CLOCKS:
            event.pop(clock, None)
        for scores in event.get("scores", {}).values():
            if "n" in scores:
                scores["rows"] = scores.pop("n")
    return events


def same(one: Any, other: Any) -> bool:
    """Say whether two values are equal, numbers to 1e-12: sums of scores may be taken in another order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15)
    return bool(one == other)


def difference(old: Path, new: Path) -> str | None:
    """Return the first thing in which two runs differ."""
    weights = [weights_of(run) for run in (old, new)]
    for name in weights[0].keys() | weights[1].keys():
        if weights[0].get(name) != weights[1].get(name):
            return f"weights: {name}"
    journals = [journal_of(run) for run in (old, new)]
    for place, (one, other) in enumerate(zip(*journals, strict=False)):
        if not same(one, other):
            return f"journal, line {place + 1}: {str(one)[:200]} and {str(other)[:200]}"
    return None if len(journals[0]) == len(journals[1]) else "the journals' lengths"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", help="a part of the names of the recipes to train")
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, made) in enumerate(recipes()):
            if given.only and given.only not in name:
                continue
            runs = [
                trained(side.resolve(), made, Path(scratch) / f"{number}-{which}")
                for which, side in (("old", given.old), ("new", given.new))
            ]
            found = difference(*runs)
            failed += found is not None
            print(f"{name}: {found or 'the same'}", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
