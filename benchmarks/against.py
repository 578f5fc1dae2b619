"""Whether one checkout of polytask takes its steps as fast as another: both train the same recipes, in turns.

    python benchmarks/against.py OLD NEW

A recipe is three tasks of one length (``strategies.recipe``), joint, with each strategy that is named; a round trains it
by both checkouts, each in a process of its own with the checkout's ``src`` first on the path, and compares the median of
the seconds that their journals give the steps. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from strategies import recipe, variants

from polytask.runtime.device import processor_kind

TRAIN = "import json, sys, polytask; polytask.train(json.loads(sys.argv[1]), sys.argv[2])"
BASE = {"layers": 12, "width": 768, "heads": 12, "vocabulary": 30_522}
WARM = 3


def step_seconds(checkout: Path, made: Mapping[str, Any], run: Path) -> float:
    """Return the median seconds of a step, those after the first few."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src")}
    command = [sys.executable, "-c", TRAIN, json.dumps(made), str(run)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout} cannot train it: {done.stderr.strip().splitlines()[-1]}")
    events = map(json.loads, (run / "journal.jsonl").read_text(encoding="utf-8").splitlines())
    return median([float(event["seconds"]) for event in events if event["event"] == "step"][WARM:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--encoder", default="minilm", help='minilm, a folder, or "base": a new one of BERT-base\'s size'
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=16, help="rows of each task in a step")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each row")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each side in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only",
        nargs="*",
        default=["aggregator pcgrad", "regularizer smart, unit radius"],
        help="strategies beside plain",
    )
    given = parser.parse_args()
    chosen = {name: stage for name, stage in variants().items() if name in given.only}
    stages: dict[str, dict[str, Any]] = {"plain": {}} | chosen
    print(
        f"{processor_kind(torch.device(given.device))}, {given.encoder}, 3 tasks x {given.rows} rows x {given.tokens} tokens"
    )
    print("seconds a step, new / old: median (least – most) of the rounds", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, stage in stages.items():
            made = recipe(given.encoder, given.rows, given.tokens, {**stage, "steps": given.steps + WARM})
            made |= {"device": given.device} | ({"encoder": BASE} if given.encoder == "base" else {})
            ratios: list[float] = []
            taken: list[float] = []
            for number in range(given.rounds):
                seconds = {}
                for which in ("old", "new") if number % 2 == 0 else ("new", "old"):
                    run = Path(scratch) / f"{len(ratios)}-{name}-{which}"
                    seconds[which] = step_seconds(getattr(given, which), made, run)
                ratios.append(seconds["new"] / seconds["old"])
                taken.append(seconds["old"])
            spread = f"{median(ratios):.3f} ({min(ratios):.3f} – {max(ratios):.3f})"
            print(f"{name:<32}{spread}   old: {1000 * median(taken):.1f} ms", flush=True)


if __name__ == "__main__":
    main()
