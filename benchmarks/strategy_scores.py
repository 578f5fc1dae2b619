"""What each strategy does to dev scores: joint steps on the three CS224N tasks, several seeds a row, one table.

Runs that are finished are not repeated, interrupted ones go on. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from polytask.run.journal import read_journal
from polytask.runtime.device import processor_kind

SHARED = Path(__file__).resolve().parents[2] / "shared"
QUORA_DEV_ROWS = 4000
SMART = '{ name = "smart", radius = "unit", weight = 1.0 }'
SCORES = (("sst", "accuracy"), ("quora", "accuracy"), ("sts", "pearson"))


@dataclass(frozen=True)
class Row:
    """A row of the table: its name, and what it changes in the recipe of joint steps with summed losses."""

    name: str
    sets: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.name.lower())


def rows(steps: int) -> list[Row]:
    """Return the table's rows. Heads first takes a quarter of the steps for the heads."""
    quarter = steps // 4
    heads = f'{{ train = "heads", steps = {quarter}, batch_size = 16, learning_rate = 1e-3, mixing = "joint" }}'
    rest = f'{{ steps = {steps - quarter}, batch_size = 16, learning_rate = 1e-4, mixing = "joint" }}'
    return [
        Row("plain joint"),
        Row("plain joint, STS's error in points", ("tasks.sts.kind.output=raw", "tasks.sts.kind.unit=1.0")),
        Row("PCGrad", ("stages.0.aggregator=pcgrad",)),
        Row("uncertainty", ("stages.0.balance=uncertainty",)),
        Row("SMART", (f"stages.0.regularizers=[{SMART}]",)),
        Row("SMART + PCGrad", (f"stages.0.regularizers=[{SMART}]", "stages.0.aggregator=pcgrad")),
        Row("heads first, then all", (f"stages=[{heads}, {rest}]",)),
    ]


def command(row: Row, seed: int, run: Path, data: Path, settings: argparse.Namespace) -> list[str]:
    """Return the command line of one run: a new one, or the rest of one that was interrupted."""
    polytask = [sys.executable, "-m", "polytask"]
    if (run / "recipe.toml").exists():
        return [*polytask, "resume", str(run)]
    plain = (
        f"data={data}",
        f"seed={seed}",
        f"encoder.checkpoint={settings.encoder}",
        f"tasks.quora.dev={settings.out.resolve() / 'quora-dev.csv'}",
        "checkpoint_every=100",
        f"stages=[{{ steps = {settings.steps}, batch_size = 16, learning_rate = 1e-4, mixing = 'joint' }}]",
    )
    sets = [part for change in (*plain, *row.sets) for part in ("--set", change)]
    return [*polytask, "train", "cs224n", "--out", str(run), *sets]


def train(row: Row, seed: int, settings: argparse.Namespace) -> None:
    """Train one run, unless it is finished."""
    run = settings.out / f"{row.folder}-{seed}"
    if not (run / "model.safetensors").exists():
        threads = str(max((os.cpu_count() or 1) // settings.workers, 1))
        with run.with_suffix(".log").open("ab") as log:
            line = command(row, seed, run, settings.data.resolve(), settings)
            done = subprocess.run(
                line, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": threads}, check=False
            )
        if done.returncode:
            sys.exit(f"{run} failed; see {run.with_suffix('.log')}")
    sys.stderr.write(f"{row.name}, seed {seed}: {found(run)}\n")


def found(run: Path) -> dict[str, float]:
    """Return what a run came to: dev scores after the last step, seconds a step, share of steps in conflict."""
    events = read_journal(run / "journal.jsonl")
    last = [event for event in events if event["event"] == "evaluation"][-1]
    taken = [event for event in events if event["event"] == "step"]
    values = {task: last["scores"][task][metric] for task, metric in SCORES}
    values |= {"aggregate": last["aggregate"], "seconds": float(np.median([event["seconds"] for event in taken]))}
    conflicts = [min(event["cosines"].values()) < 0 for event in taken if event.get("cosines")]
    return values | ({"conflict": mean(conflicts)} if conflicts else {})


def table(names: Sequence[str], results: dict[str, list[dict[str, float]]]) -> str:
    """Return the table in Markdown: mean ± standard deviation over the seeds."""
    keys = ["sst", "quora", "sts", "aggregate", "seconds", "conflict"]
    head = [
        "strategy",
        "seeds",
        "SST accuracy",
        "Quora accuracy",
        "STS Pearson",
        "aggregate",
        "s / step",
        "steps in conflict",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name in names:
        cells = [_cell(key, [result[key] for result in results[name] if key in result]) for key in keys]
        lines.append(f"| {name} | {len(results[name])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(key: str, values: Sequence[float]) -> str:
    if not values:
        return "–"
    if key == "seconds":
        return f"{mean(values):.2f}"
    if key == "conflict":
        return f"{mean(values):.0%}"
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def noise(results: dict[str, list[dict[str, float]]]) -> str:
    """Say how far two seeds of the same strategy lie apart in the aggregate, on average and at most."""
    apart = [abs(a["aggregate"] - b["aggregate"]) for runs in results.values() for a, b in combinations(runs, 2)]
    if not apart:
        return "With one seed a strategy there is no telling what is noise."
    return (
        f"Two seeds of one strategy differ in the aggregate by {mean(apart):.3f} on average, {max(apart):.3f} at most."
    )


def cut_quora(data: Path, out: Path) -> None:
    """Write a fixed draw of Quora dev, the same for every run."""
    place = out / "quora-dev.csv"
    if place.exists():
        return
    with (data / "quora-dev.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file, delimiter="\t")
    label = header.index("is_duplicate")
    usable = [line for line in lines if len(line) == len(header) and line[label]]
    chosen = np.random.default_rng(0).permutation(len(usable))[:QUORA_DEV_ROWS]
    with place.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([header, *(usable[number] for number in sorted(chosen))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cs224n", help="the course's tables")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="rows by name; all by default")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="runs at once; they share the cores")
    parser.add_argument("--finished", action="store_true", help="train nothing, print what the finished runs came to")
    settings = parser.parse_args()
    if not settings.data.is_dir():
        sys.exit(f"There are no tables in {settings.data}: give --data.")
    settings.out.mkdir(parents=True, exist_ok=True)
    cut_quora(settings.data, settings.out)
    chosen = [row for row in rows(settings.steps) if not settings.only or row.name in settings.only]
    if not settings.finished:
        with ThreadPoolExecutor(settings.workers) as pool:
            jobs = [pool.submit(train, row, seed, settings) for seed in range(settings.seeds) for row in chosen]
            for job in jobs:
                job.result()
    runs = {row.name: [settings.out / f"{row.folder}-{seed}" for seed in range(settings.seeds)] for row in chosen}
    results: dict[str, Any] = {
        name: [found(run) for run in some if (run / "model.safetensors").exists()] for name, some in runs.items()
    }
    import torch

    sys.stdout.write(
        f"{processor_kind(torch.device('cpu'))}, {settings.workers} runs at once, {settings.steps} steps\n\n"
    )
    sys.stdout.write(table([row.name for row in chosen], results) + "\n\n" + noise(results) + "\n")
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
