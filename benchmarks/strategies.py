"""What each strategy costs: time per step and peak memory, relative to the plain joint step on the same three batches.

Every strategy takes turns with the plain step in the same process, so the ratios hold whatever else the machine does;
memory is read off a process of its own for each. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from polytask.aggregators.base import aggregators
from polytask.assembly.parts import Parts, build
from polytask.balance.base import balances
from polytask.recipe.load import load_recipe
from polytask.runtime.device import DTYPES, processor_kind
from polytask.training.step import Step

Stage = dict[str, Any]

REGULARIZERS: dict[str, Stage] = {
    "smart, unit radius": {"name": "smart", "radius": "unit"},
    "smart, paper radius": {"name": "smart", "radius": "paper"},
    "bregman": {"name": "bregman"},
    "rdrop": {"name": "rdrop"},
}
OTHERS: dict[str, Stage] = {"diagnose": {"diagnose": True}, "average": {"average": 0.999}}


@dataclass(frozen=True)
class Cost:
    """Time per step relative to the plain step's (median, least and most of the rounds), and peak memory likewise."""

    ratio: float
    least: float
    most: float
    memory: float | None


def variants() -> dict[str, Stage]:
    """Return what each strategy adds to the plain stage."""
    found: dict[str, Stage] = {
        f"aggregator {name}": {"aggregator": name} for name in aggregators.names() if name != "sum"
    }
    found |= {f"balance {name}": {"balance": name} for name in balances.names() if name != "fixed"}
    found |= {f"regularizer {name}": {"regularizers": [settings]} for name, settings in REGULARIZERS.items()}
    return found | OTHERS


def recipe(encoder: str, rows: int, tokens: int, stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return three tasks of ``rows`` rows of the same length: one text, a pair with a class, a pair with a score."""
    words = tokens - 2
    half = (tokens - 3) // 2
    single = [{"text": _text(row, words), "label": str(row % 5)} for row in range(rows)]
    pairs = [
        {"a": _text(row, half), "b": _text(row + 7, tokens - 3 - half), "label": str(row % 2)} for row in range(rows)
    ]
    scored = [row | {"label": str(number % 6)} for number, row in enumerate(pairs)]
    regression = {"name": "regression", "range": [0.0, 5.0]}
    tasks = {
        "class": {"kind": "classification", "text": "text", "label": "label", "train": single},
        "pair": {"kind": "binary", "text": ["a", "b"], "label": "label", "train": pairs},
        "score": {"kind": regression, "text": ["a", "b"], "label": "label", "train": scored},
    }
    plain = {"steps": 1000, "batch_size": rows, "mixing": "joint", "learning_rate": 1e-6, "schedule": "constant"}
    return {"encoder": {"checkpoint": encoder}, "tasks": tasks, "stages": [{**plain, **stage}]}


def _text(row: int, words: int) -> str:
    common = ("good", "film", "story", "time", "people", "world", "house", "night", "water", "music")
    return " ".join(common[(row + place * 3) % len(common)] for place in range(words))


def new_parts(settings: argparse.Namespace, stage: Mapping[str, Any]) -> Parts:
    return build(load_recipe(recipe(settings.encoder, settings.rows, settings.tokens, stage)))


def new_step(parts: Parts, stage: int = 0) -> Step:
    dtype = DTYPES[parts.recipe.precision]
    return Step(parts.model, parts.tasks, parts.train_rows, parts.stages[stage], seed=0, dtype=dtype)


def seconds(step: Step, times: int) -> float:
    """Return the median time of a step, always on the same batches; the first one, which allocates, does not count."""
    taken = []
    for number in range(times + 1):
        started = time.perf_counter()
        step(0)
        if number:
            taken.append(time.perf_counter() - started)
    return median(taken)


def compare(settings: argparse.Namespace, stage: Mapping[str, Any]) -> list[float]:
    """Return the ratio of each round; plain and strategy take turns at being first."""
    both = [new_parts(settings, {}), new_parts(settings, stage)]
    ratios = []
    for number in range(settings.rounds):
        measured = {}
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            step = new_step(both[which])
            measured[which] = seconds(step, settings.steps)
            step.release()
        ratios.append(measured[1] / measured[0])
    return ratios


def peak(settings: argparse.Namespace, name: str) -> float:
    """Return the peak resident memory, in MB, of a process that takes three steps with one strategy."""
    options = [f"--{key}={getattr(settings, key)}" for key in ("encoder", "rows", "tokens")]
    line = [sys.executable, __file__, *options, "--peak-of", name]
    return float(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def print_peak(settings: argparse.Namespace) -> None:
    step = new_step(new_parts(settings, variants().get(settings.peak_of, {})))
    for _ in range(3):
        step(0)
    sys.stdout.write(f"{_peak_megabytes()}\n")


def _peak_megabytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux is at least what the parent process had taken
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(costs: Mapping[str, Cost]) -> str:
    lines = ["| strategy | time | least–most | peak memory |", "|---|---:|---:|---:|"]
    for name, cost in costs.items():
        memory = "–" if cost.memory is None else f"{cost.memory:.2f}"
        lines.append(f"| {name} | {cost.ratio:.2f} | {cost.least:.2f}–{cost.most:.2f} | {memory} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="minilm", help="minilm, or a folder")
    parser.add_argument("--rows", type=int, default=16, help="rows of each task in a step")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each row")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of each side in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="strategies whose name begins so; all by default")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    settings = parser.parse_args(arguments)
    if settings.peak_of is not None:
        print_peak(settings)
        return
    chosen = {name: s for name, s in variants().items() if not settings.only or name.startswith(tuple(settings.only))}
    if not chosen:
        parser.error(f"no strategy begins with {' or '.join(settings.only)}; there are: {', '.join(variants())}")
    base = None if settings.no_memory else peak(settings, "")
    costs: dict[str, Cost] = {}
    for name, stage in chosen.items():
        ratios = compare(settings, stage)
        memory = None if base is None else peak(settings, name) / base
        costs[name] = Cost(median(ratios), min(ratios), max(ratios), memory)
        sys.stderr.write(f"{name}: {costs[name]}\n")
    device = torch.device("cpu")
    sys.stdout.write(
        f"{processor_kind(device)}, {torch.get_num_threads()} threads, {settings.encoder}, "
        f"3 tasks x {settings.rows} rows x {settings.tokens} tokens, median of {settings.rounds} rounds\n\n"
    )
    sys.stdout.write(table(costs) + "\n")
    sys.stdout.write(json.dumps({name: vars(cost) for name, cost in costs.items()}) + "\n")


if __name__ == "__main__":
    main()
