"""The main job on an embedded default: tables that polytask makes itself, three tasks, one encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from polytask.encoder.foreign.fetch import get
from polytask.inference.predictor import load
from polytask.jobs.train import train
from polytask.run.listen import Audience, Listener
from polytask.run.scores import RunScores
from polytask.runtime.files import new_folder

from .examples import write_examples


@dataclass(frozen=True)
class Quickstart:
    """What the first run came to, where everything lies, and what to type next."""

    folder: Path
    scores: RunScores
    places: list[tuple[str, str]]
    commands: list[str]


def quickstart(folder: Path, listeners: Sequence[Listener] = ()) -> Quickstart:
    """Make tables, fetch MiniLM, train three cross-encoded tasks, evaluate, write predictions: all in a new folder.

    Raises RunFolderError if the folder holds something, Unavailable if the weights cannot be had.
    """
    Audience(listeners).note("Fetching all-MiniLM-L6-v2 (92 MB, once).")
    get("minilm")
    new_folder(folder)
    write_examples(folder / "tables")
    recipe = folder / "recipe.toml"
    recipe.write_bytes((files("polytask") / "recipes" / "quickstart.toml").read_bytes())
    run = train(recipe, folder / "run", listeners=listeners)
    return Quickstart(folder, load(run).evaluate(), _places(folder), _commands(folder))


def _places(folder: Path) -> list[tuple[str, str]]:
    return [
        (str(folder / "tables"), "the tables, made by polytask's own grammars"),
        (str(folder / "recipe.toml"), "the recipe: change it and train again"),
        (str(folder / "run"), "the run: model.safetensors, tokenizer.json, journal.jsonl"),
        (str(folder / "run" / "predictions"), "the dev predictions of each task"),
    ]


def _commands(folder: Path) -> list[str]:
    run, tables = folder / "run", folder / "tables"
    return [
        f"polytask evaluate {run} --json",
        f"polytask predict {run} --task sentiment {tables / 'sentiment-dev.csv'} --output predictions.csv",
        f"polytask show {folder / 'recipe.toml'}",
        "polytask init YOUR-TABLE.csv --out recipe.toml",
    ]
