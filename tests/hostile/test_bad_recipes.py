"""Bad recipes through the command line: each wrong key is named, with what came and what is wanted, all in one message.

A case is a change to a recipe that trains, and what has to be said of it. It goes through ``show``, ``train`` and
``train --dry-run``: exit code 2, one sentence a problem, no traceback, and no run folder left behind.
"""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w
from pydantic import BaseModel

from polytask.recipe.settings import EncoderSettings, Recipe, StageSettings, TaskSettings

Tiny = Callable[..., dict[str, Any]]
Polytask = Callable[..., Any]

GONE = object()
"""A key that is taken away."""
COPY = object()
"""A task that is as the first one, under another name."""


class Case(NamedTuple):
    """Values at places of the recipe, and what must be said. ``late``: only tables or weights can tell."""

    changes: dict[str, Any]
    told: tuple[str, ...]
    late: bool = False


def bad(changes: dict[str, Any], *told: str, late: bool = False) -> Case:
    return Case(changes, told, late)


SST, STS, PARAPHRASE = "tasks.sentiment", "tasks.similarity", "tasks.paraphrase"
NO_DEV = dict.fromkeys((f"{SST}.dev", f"{STS}.dev", f"{PARAPHRASE}.dev"), GONE)

TYPES = {
    # place: (value of a wrong type, what is wanted)
    "format": ("one", "1"),
    "seed": ("3", "a whole number"),
    "data": (3, "a text"),
    "device": (1, "'auto', 'cpu', 'cuda' or 'mps'"),
    "precision": (16, "'auto', 'float32' or 'bfloat16'"),
    "aggregate": (["mean"], "a name or a table"),
    "checkpoint_every": (1.5, "a whole number"),
    "encoder": ("minilm", "a table"),
    "tasks": ([], "a table"),
    "stages": ({"epochs": 3}, "a list"),
    "encoder.checkpoint": (3, "a text"),
    "encoder.architecture": (True, "'auto', 'bert' and 'lstm'"),
    "encoder.layers": ("2", "a whole number"),
    "encoder.width": (32.0, "a whole number"),
    "encoder.heads": (True, "a whole number"),
    "encoder.hidden": ([64], "a whole number"),
    "encoder.dropout": ("0.1", "a number"),
    "encoder.tokenizer": (False, "a text"),
    "encoder.vocabulary": (100.5, "a whole number"),
    f"{SST}.preset": (5, "a text"),
    f"{SST}.kind": (5, "a name or a table"),
    f"{SST}.train": (5, "a text, a list or a table"),
    f"{SST}.dev": (True, "a text, a number, a list or a table"),
    f"{SST}.text": (5, "a text or a list"),
    f"{SST}.label": (5, "a text or a list"),
    f"{SST}.id": (5, "a text"),
    f"{SST}.labels": ("0,1", "a list or a table"),
    f"{SST}.sample": ("all", "a whole number"),
    f"{SST}.max_rows": (1e3, "a whole number"),
    f"{SST}.dev_rows": ("10", "a whole number"),
    f"{SST}.max_length": ("long", "a whole number"),
    f"{SST}.bad_rows": (False, "'stop' or 'skip'"),
    f"{SST}.format": ("excel", "'csv', 'tsv', 'jsonl', 'json', 'parquet', 'xlsx', 'label' or 'text'"),
    f"{SST}.delimiter": (5, "a text"),
    f"{SST}.quote": ("`", "'none'"),
    f"{SST}.encoding": (5, "a text"),
    f"{SST}.header": ("no", "true or false"),
    f"{SST}.columns": ("text", "a list"),
    f"{SST}.missing": ("nan", "a list"),
    f"{SST}.decimal": (";", "'.' or ','"),
    f"{SST}.metrics": ("accuracy", "a list"),
    f"{SST}.judged_by": (["accuracy"], "a text"),
    f"{SST}.pooling": (["cls"], "a name or a table"),
    f"{SST}.pair": (True, "a name or a table"),
    f"{SST}.head": (3, "a name or a table"),
    f"{SST}.weight": ("1", "a number"),
    f"{SST}.learning_rate": ("1e-3", "a number"),
    f"{SST}.weight_decay": (True, "a number"),
    f"{SST}.batch_size": (8.0, "a whole number"),
    f"{SST}.rows_from": (5, "a table"),
    f"{SST}.evaluate": ("no", "true or false"),
    f"{SST}.projection": (3, "a table"),
    f"{SST}.symmetric": (1, "true or false"),
    f"{SST}.encoder": (True, "'shared' or 'own'"),
    f"{SST}.resample": ("more", "'over' or 'under'"),
    f"{SST}.augment": (2, "a name or a table"),
    f"{SST}.phrases": (5, "a table"),
    "stages.0.train": (3, "'all' or 'heads' or a table"),
    "stages.0.tasks": ("sentiment", "a list"),
    "stages.0.epochs": ("3", "a number"),
    "stages.0.steps": (2.5, "a whole number"),
    "stages.0.learning_rate": ("2e-5", "a number"),
    "stages.0.head_learning_rate": ([1], "a number"),
    "stages.0.weight_decay": ("0", "a number"),
    "stages.0.batch_size": (True, "a whole number"),
    "stages.0.batch_tokens": ("many", "a whole number"),
    "stages.0.micro_batch": (0.5, "a whole number"),
    "stages.0.schedule": (3, "a name or a table"),
    "stages.0.optimizer": (3, "a name or a table"),
    "stages.0.clip": ("none", "a number"),
    "stages.0.mixing": (3, "a name or a table"),
    "stages.0.balance": ([], "a name or a table"),
    "stages.0.aggregator": (True, "a name or a table"),
    "stages.0.regularizers": ("rdrop", "a list"),
    "stages.0.early_stopping": (True, "a table"),
    "stages.0.layer_decay": ("0.9", "a number"),
    "stages.0.average": ("yes", "a table"),
    "stages.0.diagnose": (1, "true or false"),
    "stages.0.evaluate_every": ("epoch", "a whole number"),
    "stages.0.train.last": ("two", "a whole number"),
    "stages.0.schedule.warmup": ("10%", "a number"),
    "stages.0.schedule.warmup_unit": (1, "'auto', 'share', 'steps' or 'epochs'"),
    "stages.0.optimizer.betas": (0.9, "a list"),
    "stages.0.optimizer.epsilon": ("1e-8", "a number"),
    "stages.0.early_stopping.patience": ("3", "a whole number"),
    "stages.0.early_stopping.minimum": ([], "a number"),
    f"{SST}.labels.0": (0, 'wanted a text. Write it as "0"'),
    "stages.0.regularizers.0.name": (3, "a text"),
    "stages.0.regularizers.0.weight": ("1", "a number or a table"),
    "stages.0.tasks.0": (3, "a text"),
    f"{SST}.kind.name": (5, "a text"),
}
BELOW = {  # what has to be there for a place in it
    "stages.0.train.": {"last": 1},
    "stages.0.schedule.": {"name": "linear"},
    "stages.0.optimizer.": {"name": "adamw"},
    "stages.0.early_stopping.": {"patience": 3},
    "stages.0.regularizers.": [{"name": "rdrop"}],
    "stages.0.tasks.": ["sentiment"],
    f"{SST}.labels.": ["0", "1"],
    f"{SST}.kind.": {"name": "classification"},
}

CASES: dict[str, Case] = {
    # -- keys that there are not -------------------------------------------------------------------------------------
    "unknown key": bad({"sed": 1}, "sed: there is no such key. Did you mean 'seed'?"),
    "unknown key of the encoder": bad({"encoder.layer": 2}, "encoder.layer: there", "Did you mean 'layers'?"),
    "unknown key of a task": bad({f"{SST}.lable": "x"}, f"{SST}.lable: there", "Did you mean 'label'?"),
    "unknown key of a stage": bad({"stages.0.lerning_rate": 1}, "stages.0.lerning_rate: there", "'learning_rate'?"),
    "unknown key of a schedule": bad(
        {"stages.0.schedule": {"name": "cosine", "warm_up": 1}}, "stages.0.schedule.warm_up: there", "'warmup'?"
    ),
    "unknown key of an optimizer": bad(
        {"stages.0.optimizer": {"name": "adam", "beta": [0.9, 0.9]}}, "stages.0.optimizer.beta: there", "'betas'?"
    ),
    "unknown key of early stopping": bad(
        {"stages.0.early_stopping": {"patients": 1}}, "stages.0.early_stopping.patients: there", "'patience'?"
    ),
    "unknown key of train": bad({"stages.0.train": {"lst": 1}}, "stages.0.train.lst: there", "'last'?"),
    "a key in the wrong table": bad({"learning_rate": 1e-3}, "learning_rate: there is no such key."),
    "an empty key": bad({"": 1}, ": there is no such key."),
    # -- keys that lack ----------------------------------------------------------------------------------------------
    "no encoder": bad({"encoder": GONE}, "encoder: is missing."),
    "no tasks": bad({"tasks": GONE}, "tasks: is missing."),
    "empty tasks": bad({"tasks": {}}, "tasks: is {}; wanted 1 or more"),
    "no stages in the list": bad({"stages": []}, "stages: is []; wanted 1 or more"),
    "no table": bad({f"{SST}.train": GONE}, f"{SST}.train: is missing: the table"),
    "no text of running text": bad(
        {f"{SST}.text": GONE, f"{SST}.train": "corpus.txt"}, "A .txt file has 'sentence' and, for pairs, 'next'."
    ),
    "no text": bad({f"{SST}.text": GONE}, f"{SST}.text: is missing: the name of the text column"),
    "no label": bad({f"{SST}.label": GONE}, f"{SST}.label: is missing: the name of the label column"),
    "no kind": bad({f"{SST}.kind": GONE}, f"{SST}.kind: is missing; there are", "'regression'"),
    "a member without a name": bad({f"{SST}.head": {"layers": 2}}, f"{SST}.head.layers: 'linear' of the heads takes no"),
    "a kind without a name": bad({f"{SST}.kind": {"focal": 2}}, f"{SST}.kind.name: is missing; there are 'binary', "),
    "a regularizer without a name": bad(
        {"stages.0.regularizers": [{"weight": 1.0}]}, "stages.0.regularizers.0.name: is missing; there are 'bregman', "
    ),
    # -- members and options that there are not -----------------------------------------------------------------------
    "unknown kind": bad({f"{SST}.kind": "clasification"}, f"{SST}.kind: 'clasification' is not", "'classification'?"),
    "unknown aggregate": bad({"aggregate": "meen"}, "aggregate: 'meen' is not one of the aggregates", "'mean'?"),
    "unknown metric": bad({f"{SST}.metrics": ["acuracy"]}, f"{SST}.metrics.0: 'acuracy' is not one", "'accuracy'?"),
    "unknown judge": bad({f"{SST}.judged_by": "acuracy"}, f"{SST}.judged_by: 'acuracy' is not one", "'accuracy'?"),
    "no metric": bad({f"{SST}.metrics": []}, f"{SST}.metrics: is []; wanted 1 or more"),
    "a metric twice": bad({f"{SST}.metrics": ["accuracy", "accuracy"]}, f"{SST}.metrics.1: names 'accuracy' twice."),
    "an option that a metric does not take": bad(
        {f"{SST}.metrics": [{"name": "calibration_error", "bin": 3}]}, f"{SST}.metrics.0.bin: ", "It takes 'bins'."
    ),
    "a metric that a kind cannot give": bad(
        {f"{SST}.metrics": ["accuracy", "pearson"]},
        f"{SST}.metrics.1: the kind 'classification' has no 'pearson'; it has 'accuracy', "
        "'calibration_error' and 'macro_f1'.",
    ),
    "a judge that a kind cannot give": bad(
        {f"{STS}.judged_by": "accuracy"},
        f"{STS}.judged_by: the kind 'regression' has no 'accuracy'; it has 'mae', 'mse', 'pearson' and",
    ),
    "unknown pooling": bad({f"{SST}.pooling": "men"}, f"{SST}.pooling: 'men' is not one", "Did you mean", "'cls'"),
    "unknown head": bad({f"{SST}.head": "mpl"}, f"{SST}.head: 'mpl' is not one", "Did you mean 'mlp'?"),
    "unknown pair mode": bad({f"{STS}.pair": "crss"}, f"{STS}.pair: 'crss' is not one of the pair modes", "'cross'?"),
    "unknown pair feature": bad(
        {f"{STS}.pair": {"name": "bi", "features": ["u", "cosin"]}}, f"{STS}.pair.features: 'cosin' is not one", "'cosine'?"
    ),
    "unknown mixing": bad({"stages.0.mixing": "jiont"}, "stages.0.mixing: 'jiont' is not", "Did you mean 'joint'?"),
    "unknown balance": bad({"stages.0.balance": "fixd"}, "stages.0.balance: 'fixd' is not", "Did you mean 'fixed'?"),
    "unknown aggregator": bad({"stages.0.aggregator": "pcgrd"}, "stages.0.aggregator: 'pcgrd' is not", "'pcgrad'?"),
    "unknown regularizer": bad(
        {"stages.0.regularizers": [{"name": "r-drop"}]}, "stages.0.regularizers.0: 'r-drop' is not", "'rdrop'?"
    ),
    "unknown preset": bad({f"{SST}.preset": "sst6"}, f"{SST}.preset: 'sst6' is not a preset. Did you mean 'sst5'?"),
    "unknown optimizer": bad({"stages.0.optimizer": "adamv"}, "stages.0.optimizer: is 'adamv'; wanted 'adamw' or"),
    "unknown schedule": bad({"stages.0.schedule": "cosin"}, "stages.0.schedule: is 'cosin'", "Did you mean 'cosine'?"),
    "an option that a head does not take": bad(
        {f"{SST}.head": {"name": "linear", "layers": 3}}, f"{SST}.head.layers: 'linear' of the heads takes no option"
    ),
    "an option mistyped": bad(
        {f"{SST}.head": {"name": "mlp", "layer": 3}}, f"{SST}.head.layer: 'mlp'", "Did you mean 'layers'?", "It takes"
    ),
    "two options mistyped": bad(
        {f"{SST}.head": {"name": "mlp", "layer": 3, "droput": 0.1}}, f"{SST}.head.layer: ", f"{SST}.head.droput: "
    ),
    "an option of the wrong type": bad(
        {f"{SST}.head": {"name": "mlp", "layers": "two"}}, f"{SST}.head.layers: option", "is 'two'; wanted a whole number"
    ),
    "a number as text": bad(
        {f"{SST}.head": {"name": "mlp", "layers": "2"}}, f"{SST}.head.layers: ", "is '2'; wanted a whole number."
    ),
    "true for a number": bad({f"{SST}.head": {"name": "mlp", "layers": True}}, f"{SST}.head.layers: ", "is true; wanted"),
    "an option that is no number": bad(
        {"stages.0.mixing": {"name": "temperature", "tau": float("nan")}}, "stages.0.mixing.tau: ", "is nan; wanted"
    ),
    "a date for an option": bad(
        {f"{SST}.head": {"name": "mlp", "layers": tomllib.loads("d = 2020-01-01")["d"]}}, f"{SST}.head.layers: ", "wanted"
    ),
    "an option out of range": bad({f"{SST}.head": {"name": "mlp", "layers": 0}}, f"{SST}.head: ", "layers is 0; an mlp"),
    "a head beyond all memory": bad(
        {f"{SST}.head": {"name": "mlp", "layers": 2, "hidden": 10**6}}, f"{SST}.head: has 1,000,00", "at most"
    ),
    "a head beyond all numbers": bad(
        {f"{SST}.head": {"name": "mlp", "hidden": 2**63}}, f"{SST}.head: 'mlp' of the heads cannot be built with"
    ),
    "a head of a million layers": bad({f"{SST}.head": {"name": "mlp", "layers": 10**6}}, "an mlp has at most 100"),
    "dropout of all": bad({f"{SST}.head": {"name": "linear", "dropout": 1.0}}, f"{SST}.head: ", "at least 0 and below 1"),
    "an option that a mixing does not take": bad(
        {"stages.0.mixing": {"name": "joint", "tau": 2.0}}, "stages.0.mixing.tau: 'joint' of the mixing takes no option"
    ),
    "a mixing out of range": bad({"stages.0.mixing": {"name": "temperature", "tau": 0.5}}, "tau is 0.5; it is at least 1"),
    "an option that an aggregator does not take": bad(
        {"stages.0.aggregator": {"name": "sum", "c": 0.5}}, "stages.0.aggregator.c: 'sum' of the aggregators takes no"
    ),
    "an option that a balance does not take": bad(
        {"stages.0.balance": {"name": "fixed", "rate": 1}}, "stages.0.balance.rate: 'fixed' of the balance takes no"
    ),
    "an option that a regularizer does not take": bad(
        {"stages.0.regularizers": [{"name": "rdrop", "alfa": 1.0}]}, "stages.0.regularizers.0.alfa: ", "'alpha'?"
    ),
    "a regularizer below nothing": bad(
        {"stages.0.regularizers": [{"name": "rdrop", "alpha": -1.0}]}, "regularizers.0: ", "alpha is -1.0; it is"
    ),
    "an option that a pair mode does not take": bad(
        {f"{STS}.pair": {"name": "cross", "features": ["u"]}}, f"{STS}.pair.features: 'cross' of the pair modes takes no"
    ),
    "pair features that are no list": bad(
        {f"{STS}.pair": {"name": "bi", "features": "u"}}, f"{STS}.pair.features: option 'features' of 'bi' is 'u'"
    ),
    "no pair features": bad({f"{STS}.pair": {"name": "bi", "features": []}}, f"{STS}.pair: 'bi' of the", "is empty"),
    "a pair feature twice": bad(
        {f"{STS}.pair": {"name": "bi", "features": ["u", "v", "u"]}}, f"{STS}.pair.features: names 'u' twice."
    ),
    "token types that are not yes or no": bad(
        {f"{PARAPHRASE}.pair": {"name": "cross", "types": "no"}}, f"{PARAPHRASE}.pair.types: option 'types'", "true or false"
    ),
    "a regression without a range": bad({f"{STS}.kind": "regression"}, f"{STS}.kind.range: ", "needs the option 'range'"),
    "a range upside down": bad(
        {f"{STS}.kind": {"name": "regression", "range": [5.0, 0.0]}}, f"{STS}.kind: ", "must be the smaller one"
    ),
    "an endless range": bad(
        {f"{STS}.kind": {"name": "regression", "range": [0.0, float("inf")]}}, f"{STS}.kind: ", "must be finite"
    ),
    "a range of words": bad(
        {f"{STS}.kind": {"name": "regression", "range": ["low", "high"]}}, f"{STS}.kind.range: ", "wanted a number"
    ),
    # -- numbers out of range -----------------------------------------------------------------------------------------
    "a negative seed": bad({"seed": -1}, "seed: is -1; wanted a number of at least 0."),
    "another format": bad({"format": 2}, "format: is 2; wanted 1."),
    "checkpoints every 0 steps": bad({"checkpoint_every": 0}, "checkpoint_every: is 0; wanted a number above 0."),
    "no layers": bad({"encoder.layers": 0}, "encoder.layers: is 0; wanted a number above 0."),
    "full dropout": bad({"encoder.dropout": 1.0}, "encoder.dropout: is 1.0; wanted a number below 1."),
    "a vocabulary of special tokens": bad({"encoder.vocabulary": 5}, "encoder.vocabulary: is 5; wanted"),
    "sample of 0": bad({f"{SST}.sample": 0}, f"{SST}.sample: is 0; wanted a number above 0."),
    "no rows": bad({f"{SST}.max_rows": 0}, f"{SST}.max_rows: is 0; wanted"),
    "a length below the special tokens": bad({f"{SST}.max_length": 3}, f"{SST}.max_length: is 3; wanted", "at least 4"),
    "a weight of nothing": bad({f"{SST}.weight": 0}, f"{SST}.weight: is 0; wanted a number above 0."),
    "a negative rate of a task": bad({f"{SST}.learning_rate": -1e-3}, f"{SST}.learning_rate: is -0.001; wanted"),
    "a negative rate": bad({"stages.0.learning_rate": -2e-5}, "stages.0.learning_rate: is -2e-05; wanted"),
    "an endless rate": bad({"stages.0.learning_rate": float("inf")}, "learning_rate: is inf; wanted a finite number."),
    "no number for a rate": bad({"stages.0.head_learning_rate": float("nan")}, "stages.0.head_learning_rate: is nan"),
    "a negative decay": bad({"stages.0.weight_decay": -0.1}, "stages.0.weight_decay: is -0.1; wanted"),
    "no epochs": bad({"stages.0.epochs": 0}, "stages.0.epochs: is 0; wanted a number above 0."),
    "no steps": bad({"stages.0.epochs": GONE, "stages.0.steps": 0}, "stages.0.steps: is 0; wanted"),
    "no batch": bad({"stages.0.batch_size": 0}, "stages.0.batch_size: is 0; wanted a number above 0."),
    "negative clip": bad({"stages.0.clip": -1}, "stages.0.clip: is -1; wanted a number of at least 0."),
    "a β of 1": bad({"stages.0.optimizer": {"name": "adam", "betas": [0.9, 1.0]}}, "optimizer.betas.1: is 1.0; wanted"),
    "three βs": bad({"stages.0.optimizer": {"name": "adam", "betas": [0.9, 0.9, 0.9]}}, "optimizer.betas: is [0.9, 0.9"),
    "one β": bad({"stages.0.optimizer": {"name": "adam", "betas": [0.9]}}, "optimizer.betas.1: is missing."),
    "ε of nothing": bad({"stages.0.optimizer": {"name": "adam", "epsilon": 0.0}}, "optimizer.epsilon: is 0.0; wanted"),
    "last of nothing": bad({"stages.0.train": {"last": 0}}, "stages.0.train.last: is 0; wanted a number above 0."),
    "no patience": bad({"stages.0.early_stopping": {"patience": 0}}, "early_stopping.patience: is 0; wanted"),
    "a negative penalty": bad(
        {"stages.0.regularizers": [{"name": "rdrop", "weight": -1.0}]}, "regularizers.0.weight: is -1.0; wanted"
    ),
    "a negative penalty of a task": bad(
        {"stages.0.regularizers": [{"name": "rdrop", "weight": {"sentiment": -1.0}}]}, "0.weight.sentiment: is -1.0"
    ),
    "steps beyond all memory": bad(
        {"stages.0.epochs": GONE, "stages.0.steps": 10**15}, "stages.0: would take more than 100,000,000 steps.", late=True
    ),
    "epochs beyond all numbers": bad({"stages.0.epochs": 1e308}, "stages.0: would take more than", late=True),
    "an encoder of too many layers": bad({"encoder.layers": 10**12}, "encoder.layers: is 1000000000000; wanted"),
    "an encoder beyond all memory": bad(
        {"encoder": {"layers": 900, "width": 50_000, "heads": 10}}, "encoder: would have", "parameters; wanted at most"
    ),
    "a number of very many digits": bad({"seed": -(10**400)}, "seed: is -1000000", "...", "wanted"),
    # -- contradictions -----------------------------------------------------------------------------------------------
    "epochs and steps": bad({"stages.0.steps": 5}, "stages.0: a stage takes 'epochs' or 'steps', not both."),
    "a checkpoint and layers": bad({"encoder.checkpoint": "minilm"}, "encoder: 'layers', 'width', 'heads' and 'hidden'"),
    "a checkpoint and a vocabulary": bad(
        {"encoder": {"checkpoint": "minilm", "vocabulary": 100}}, "encoder: 'vocabulary' cannot be chosen with"
    ),
    "a checkpoint and a tokenizer": bad(
        {"encoder": {"checkpoint": "minilm", "tokenizer": "x"}}, "encoder: 'tokenizer' cannot be chosen with"
    ),
    "an lstm from a checkpoint": bad(
        {"encoder": {"checkpoint": "x", "architecture": "lstm"}}, "encoder: an lstm is trained from scratch"
    ),
    "an lstm with attention": bad({"encoder": {"architecture": "lstm", "heads": 4}}, "encoder.heads: does nothing"),
    "any architecture from nothing": bad({"encoder": {"architecture": "auto"}}, 'architecture = "auto" needs'),
    "a vocabulary beside a tokenizer": bad(
        {"encoder": {"tokenizer": "minilm", "vocabulary": 100}}, "encoder.vocabulary: does nothing beside 'tokenizer'"
    ),
    "heads that do not divide the width": bad({"encoder.heads": 5}, "encoder.heads: a width of 32 cannot be divided"),
    "last above the depth": bad({"stages.0.train": {"last": 3}}, "stages.0.train.last: is 3, and the encoder has 2"),
    "last above an lstm's depth": bad(
        {"encoder": {"architecture": "lstm"}, "stages.0.train": {"last": 3}}, "stages.0.train.last: is 3, and the encoder"
    ),
    "max_length above the positions": bad({f"{SST}.max_length": 513}, f"{SST}.max_length: is 513; the encoder takes 512"),
    "surgery with one task a step": bad({"stages.0.aggregator": "pcgrad"}, "stages.0.aggregator: 'pcgrad'", '"joint"'),
    "surgery on a frozen encoder": bad(
        {"stages.0.aggregator": "pcgrad", "stages.0.mixing": "joint", "stages.0.train": "heads"},
        "stages.0.aggregator: 'pcgrad' combines gradients of the encoder, which train = \"heads\" freezes",
    ),
    "layer decay on a frozen encoder": bad(
        {"stages.0.layer_decay": 0.9, "stages.0.train": "heads"}, "stages.0.layer_decay: does nothing: train = \"heads\""
    ),
    "early stopping without dev": bad(
        {**NO_DEV, "stages.0.early_stopping": {"patience": 1}}, "stages.0.early_stopping: ", "dev"
    ),
    "evaluations without dev": bad({**NO_DEV, "stages.0.evaluate_every": 3}, "stages.0.evaluate_every: does nothing"),
    "dev_rows without dev": bad({f"{SST}.dev": GONE, f"{SST}.dev_rows": 3}, f"{SST}.dev_rows: does nothing"),
    "a stage of tasks that are not": bad(
        {"stages.0.tasks": ["sentimnt", "qqp"]}, "stages.0.tasks: there is no task 'sentimnt' and 'qqp'", "'sentiment'?"
    ),
    "a stage of no tasks": bad({"stages.0.tasks": []}, "stages.0.tasks: a stage needs at least one task."),
    "a stage of a task twice": bad({"stages.0.tasks": ["sentiment"] * 2}, "stages.0.tasks: names 'sentiment' twice."),
    "penalties for tasks that are not": bad(
        {"stages.0.regularizers": [{"name": "rdrop", "weight": {"sst": 1.0}}]}, "regularizers.0: 'rdrop' has a weight for"
    ),
    "penalties for no task": bad(
        {"stages.0.regularizers": [{"name": "rdrop", "weight": {}}]}, "regularizers.0.weight: is empty"
    ),
    "penalties for tasks of another stage": bad(
        {"stages.0.tasks": ["sentiment"], "stages.0.regularizers": [{"name": "rdrop", "weight": {"similarity": 1.0}}]},
        "a weight for 'similarity', which is no task of this stage",
    ),
    "a regularizer twice": bad(
        {"stages.0.regularizers": [{"name": "rdrop"}, {"name": "rdrop", "weight": {"sentiment": 2.0}}]},
        "stages.0.regularizers.1: 'rdrop' acts on 'sentiment' already",
    ),
    "a pair feature on a single text": bad(
        {f"{SST}.pair": {"name": "bi", "features": ["u"]}}, f"{SST}.pair: a task with one text column has no pair"
    ),
    "token types on a single text": bad({f"{SST}.pair": {"name": "cross", "types": False}}, f"{SST}.pair: a task with"),
    "three texts": bad({f"{SST}.text": ["a", "b", "c"]}, f"{SST}.text: names 3 columns; a task has one text or two."),
    "no texts": bad({f"{SST}.text": []}, f"{SST}.text: names 0 columns"),
    "a text without a name": bad({f"{SST}.text": ""}, f"{SST}.text: is an empty text"),
    "a text twice": bad({f"{STS}.text": ["sentence1", "sentence1"]}, f"{STS}.text: names the column 'sentence1' twice"),
    "a label that is the text": bad({f"{SST}.label": "sentence"}, f"{SST}.label: is 'sentence', which is a text column"),
    "an id that is the label": bad({f"{SST}.id": "sentiment"}, f"{SST}.id: is 'sentiment', which is the label column"),
    "a dev share that is never scored": bad(
        {f"{SST}.dev": 0.1, f"{SST}.evaluate": False}, f"{SST}.dev: would take rows from train that evaluate = false"
    ),
    "fewer rows of a dev that is never scored": bad(
        {f"{SST}.dev_rows": 5, f"{SST}.evaluate": False}, f"{SST}.dev_rows: does nothing beside evaluate = false."
    ),
    "an option of an augmentation": bad(
        {f"{SST}.augment": {"name": "eda", "swop": 0.1}}, f"{SST}.augment.swop: 'eda' of the augmentations takes no option"
    ),
    "unknown augmentation": bad({f"{SST}.augment": "ead"}, f"{SST}.augment: 'ead' is not one of the augmentations."),
    "phrases of a pair": bad({f"{STS}.phrases": "t.txt"}, f"{STS}.phrases: 'phrases' are single texts"),
    "another word for resample": bad({f"{SST}.upsample": "over"}, f"{SST}.upsample: there is no such key.", "'resample'?"),
    "all of train as dev": bad({f"{SST}.dev": 1.0}, f"{SST}.dev: is 1.0; a share of train lies between 0 and 1."),
    "a whole number as dev": bad({f"{SST}.dev": 1}, f"{SST}.dev: is 1.0; a share"),
    "none of train as dev": bad({f"{SST}.dev": 0.0}, f"{SST}.dev: is 0.0; a share"),
    "labels for a regression": bad({f"{STS}.labels": ["0", "1"]}, f"{STS}.kind: ", "has a range, not labels"),
    "one label": bad({f"{SST}.labels": ["0"]}, f"{SST}.kind: ", "there is only the label '0'"),
    "no labels": bad({f"{SST}.labels": []}, f"{SST}.labels: is empty"),
    "a delimiter of two letters": bad({f"{SST}.delimiter": "::"}, f"{SST}.delimiter: is '::'; wanted one character"),
    "an encoding of nobody": bad({f"{SST}.encoding": "utf-9"}, f"{SST}.encoding: is 'utf-9', which is no encoding"),
    "an encoding of no text": bad({f"{SST}.encoding": "base64"}, f"{SST}.encoding: is 'base64', which is no encoding"),
    "a column named twice": bad({f"{SST}.columns": ["a", "a"]}, f"{SST}.columns: names a column twice."),
    "no header and no names": bad({f"{SST}.header": False}, f"{SST}.header: is false: name the columns as well"),
    "too few columns": bad({f"{SST}.columns": ["id", "sentence"]}, "2 columns are named, and its first line has", late=True),
    "label columns of a class": bad({f"{SST}.label": ["a", "b"]}, f"{SST}.label: is a list of columns", 'kind = "multilabel"'),
    "one label column in a list": bad({f"{SST}.kind": "multilabel", f"{SST}.label": ["a"]}, f"{SST}.label: ", "at least two"),
    "a label column twice": bad({f"{SST}.kind": "multilabel", f"{SST}.label": ["a", "a"]}, f"{SST}.label: names 'a' twice."),
    "labels other than columns": bad(
        {f"{SST}.kind": "multilabel", f"{SST}.label": ["a", "b"], f"{SST}.labels": ["b", "a"]},
        f"{SST}.labels: names other labels than the columns",
    ),
    "a label twice": bad({f"{SST}.labels": ["0", "1", "1"]}, f"{SST}.labels: names '1' twice."),
    "an empty label": bad({f"{SST}.labels": ["0", " "]}, f"{SST}.labels: names an empty label"),
    "two labels of one name": bad({f"{SST}.labels": {"0": "bad", "1": "bad"}}, f"{SST}.labels: shows two labels as 'bad'"),
    "three labels of two": bad({f"{PARAPHRASE}.labels": ["0", "1", "2"]}, f"{PARAPHRASE}.kind: ", "a binary task has two"),
    "a label that separates": bad(
        {f"{SST}.kind": "multilabel", f"{SST}.labels": ["a;b", "c"]}, f"{SST}.kind: ", "'a;b' could never be read"
    ),
    "a separator of nothing": bad({f"{SST}.kind": {"name": "multilabel", "separator": ""}}, f"{SST}.kind: ", "separator is"),
    "a share of more than all": bad(
        {"stages.0.schedule": {"name": "linear", "warmup": 2.0, "warmup_unit": "share"}}, "warmup: is 2; a share of"
    ),
    "a part of a step": bad(
        {"stages.0.schedule": {"name": "linear", "warmup": 0.1, "warmup_unit": "steps"}}, "warmup: is 0.1 steps; wanted"
    ),
    "warm-up beyond the steps": bad(
        {"stages.0.epochs": GONE, "stages.0.steps": 9, "stages.0.schedule": {"name": "linear", "warmup": 10}},
        "stages.0.schedule.warmup: is 10 steps; the stage has 9",
    ),
    "warm-up beyond the epochs": bad(
        {"stages.0.schedule": {"name": "linear", "warmup": 3, "warmup_unit": "epochs"}}, "warmup: is 3 epochs; the stage"
    ),
    "warm-up beyond what the epochs come to": bad(
        {"stages.0.schedule": {"name": "linear", "warmup": 500}}, "warmup: is 500 steps; the stage has 36", late=True
    ),
    # -- names --------------------------------------------------------------------------------------------------------
    "names that differ in case": bad({"tasks.Sentiment": COPY}, "tasks.Sentiment: differs from 'sentiment' only"),
    "a name that climbs": bad({"tasks...": COPY}, "tasks...: a task's name is made of letters"),
    "a name with a folder": bad({"tasks.a/b": COPY}, "tasks.a/b: a task's name is made of letters"),
    "a name with a backslash": bad({"tasks.a\\b": COPY}, "tasks.a\\b: a task's name is made of"),
    "a name with a line break": bad({"tasks.a\nb": COPY}, "tasks.a\\nb: a task's name is made of letters"),
    "a name that steers a terminal": bad({"tasks.a\x1b[31m": COPY}, "tasks.a\\x1b[31m: a task's name is made of"),
    "a name of torch": bad({"tasks.training": COPY}, "tasks.training: 'training' means something to torch"),
    "a name of no length": bad({"tasks.": COPY}, "a task's name is made of letters"),
    "a name of great length": bad({"tasks." + "x" * 200: COPY}, "a task's name has at most 100"),
    # -- what only the tables can tell ----------------------------------------------------------------------------------
    "a table that is not": bad({f"{SST}.train": "sentiment-tran.csv"}, "does not exist. Did you mean", late=True),
    "a table that is a folder": bad({f"{SST}.train": "."}, "is a folder, not a table", late=True),
    "a table of nobody": bad({f"{SST}.train": "~nobody-at-all/x.csv"}, f"{SST}.train: is '~nobody-at-all/x.csv', the home"),
    "a table whose name is no name": bad({f"{SST}.train": "a\0b.csv"}, "does not exist", late=True),
    "data of nobody": bad({"data": "~nobody-at-all"}, "data: is '~nobody-at-all', the home folder of somebody"),
    "data that is not": bad({"data": "nowhere"}, "does not exist", late=True),
    "a column that is not": bad({f"{SST}.text": "sentense"}, "has no column 'sentense'. Did you mean 'sentence'", late=True),
    "a head on words": bad(
        {f"{SST}.kind": {"name": "regression", "range": [0.0, 5.0]}, f"{SST}.label": "id"}, "is not a number", late=True
    ),
    "a text for a class": bad(
        {f"{PARAPHRASE}.label": "sentence1", f"{PARAPHRASE}.text": "sentence2"}, "a binary task has two", late=True
    ),
    "a table of the hub": bad({f"{SST}.train": "hub:glue"}, "write hub:NAME:SPLIT", late=True),
    "a table of nothing": bad({f"{SST}.train": []}, "is empty", late=True),
    "a checkpoint that is not": bad({"encoder": {"checkpoint": "./nowhere"}}, "There is no checkpoint './nowhere'", late=True),
}  # fmt: skip
CASES |= {
    f"{place} of a wrong type": bad({place: value}, f"{place}: is ", wanted) for place, (value, wanted) in TYPES.items()
}


def changed(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with values put at places."""
    recipe = copy.deepcopy(recipe)
    for place, value in changes.items():
        for start, below in BELOW.items():
            if place.startswith(start) and place != start:
                put(recipe, start.rstrip("."), copy.deepcopy(below))
        if value is COPY:
            recipe["tasks"][place.removeprefix("tasks.")] = copy.deepcopy(recipe["tasks"]["sentiment"])
        else:
            put(recipe, place, value)
    return recipe


def put(recipe: Any, place: str, value: Any) -> None:
    *above, key = place.split(".")
    for part in above:
        recipe = recipe[int(part)] if isinstance(recipe, list) else recipe[part]
    if value is GONE:
        recipe.pop(key, None)
    else:
        recipe[int(key) if isinstance(recipe, list) else key] = value


def assert_told(said: Any, *told: str) -> None:
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert "did not foresee" not in said.err
    assert "\x1b" not in said.err
    for part in told:
        assert part in said.err, said.err


@pytest.mark.parametrize("name", CASES)
def test_a_bad_recipe_is_told(polytask: Polytask, tiny: Tiny, tmp_path: Path, name: str) -> None:
    case, run, file = CASES[name], tmp_path / "run", tmp_path / "my.toml"
    file.write_text(tomli_w.dumps(changed(tiny(), case.changes)), encoding="utf-8")
    shown = polytask("show", file)
    if case.late:
        assert shown.code == 0, shown
    else:
        assert_told(shown, f"{file} is not a valid recipe:", *case.told)
        assert len(shown.err.splitlines()) <= 1 + max(len(case.told), 4), shown.err
    for arguments in (("--out", run), ("--out", run, "--dry-run")):
        assert_told(polytask("train", file, *arguments), *case.told)
    assert sorted(tmp_path.iterdir()) == [file]


def test_there_is_a_case_for_every_key() -> None:
    tables: dict[str, type[BaseModel]] = {
        "": Recipe,
        "encoder.": EncoderSettings,
        f"{SST}.": TaskSettings,
        "stages.0.": StageSettings,
    }
    for prefix, table in tables.items():
        for key in table.model_fields:
            assert f"{prefix}{key}" in TYPES, f"{prefix}{key}"


def test_everything_is_told_at_once(polytask: Polytask, tiny: Tiny, tmp_path: Path) -> None:
    """Wrong keys and types, members and options, and contradictions: found by three different readers."""
    cases = [
        "names that differ in case",
        "unknown key",
        "encoder.layers of a wrong type",
        "unknown key of a task",
        "unknown pair feature",
        "two options mistyped",
        "a text twice",
        "unknown balance",
        "epochs and steps",
        "an option that a mixing does not take",
        "a regularizer twice",
        "max_length above the positions",
        "stages.0.clip of a wrong type",
    ]
    recipe = tiny()
    for name in cases:
        recipe = changed(recipe, CASES[name].changes)
    recipe["tasks"]["paraphrase"]["preset"] = "qpq"
    (tmp_path / "my.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    said = polytask("show", tmp_path / "my.toml")
    assert_told(said, *(part for name in cases for part in CASES[name].told), "Did you mean 'qqp'?")
    problems = said.err.splitlines()[1:]
    assert len(problems) == len(set(problems)) == len(cases) + 2  # two options are mistyped, and the preset


def test_what_could_not_be_read_is_told_once(polytask: Polytask, tiny: Tiny, tmp_path: Path) -> None:
    changes = {
        f"{SST}.train": 5,
        f"{SST}.head": {"name": 2},
        f"{SST}.preset": 5,
        f"{SST}.kind": GONE,
        "stages.0.tasks": 3,
    }
    (tmp_path / "my.toml").write_text(tomli_w.dumps(changed(tiny(), changes)), encoding="utf-8")
    said = polytask("show", tmp_path / "my.toml")
    places = [line.split(":")[0].strip() for line in said.err.splitlines()[1:]]
    assert sorted(places) == ["stages.0.tasks", f"{SST}.head.name", f"{SST}.preset", f"{SST}.train"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "encoder: is missing."),
        (b"\xef\xbb\xbf# only a comment", "tasks: is missing."),
        (b"[tasks", "is not TOML: "),
        (b"[[encoder]]\nlayers = 2\n[[tasks]]\n", "encoder: is [{'layers': 2}]; wanted a table."),
        (b"[1, 2, 3]", "is not TOML: "),
        (b"tasks:\n  sst:\n    kind: classification\n", "is not TOML: "),
        (b'{"encoder": {}}', "is not TOML: "),
        (b"seed = 1\nseed = 2", "is not TOML: "),
        (b"seed = " + b"9" * 5000, "is not TOML: a number in it has too many digits."),
        (b"seed = " + b"[" * 100_000, "is not TOML: its lists or tables lie too deep."),
        (b"encoder = " + b"{a=" * 300 + b"1" + b"}" * 300 + b"\n[tasks.a]", "encoder.a: there is no such key."),
        (b"seed = " + b"[" * 300 + b"]" * 300, "seed: is [[[[...]]]]; wanted a whole number."),
        (b'seed = "' + b"x" * 100_000 + b'"', "seed: is 'xxx"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "byte 1 is 0x89, which is not UTF-8."),
        ('[encoder]\ncheckpoint = "minilm"'.encode("utf-16"), "It looks like UTF-16. Save it as UTF-8."),
        ("# Bücher\n".encode("latin-1"), "byte 4 is 0xFC, which is not UTF-8."),
        (b"\0\0\0\0", "is not TOML: "),
        (None, "is a folder, not a recipe."),
    ],
)  # fmt: skip
def test_what_is_no_recipe_at_all(polytask: Polytask, tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "my.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    for command in (("show",), ("train", "--out", tmp_path / "run"), ("train", "--dry-run", "--out", tmp_path / "run")):
        said = polytask(*command, path)
        assert_told(said, str(path), told)
        assert len(said.err) < 1000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name", ["", "a\0b", "x" * 5000, "none/my.toml", "~nobody-at-all/x.toml", "cs224", "loop.toml"]
)
def test_a_recipe_that_is_nowhere(
    polytask: Polytask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for command in (("show",), ("train", "--out", "run")):
        assert_told(polytask(*command, name))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed", "An override is KEY=VALUE, as in stages.0.epochs=1; it was given 'seed'."),
        ("=3", "An override is KEY=VALUE"),
        ("", "An override is KEY=VALUE"),
        ("sed=3", "sed: there is no such key. Did you mean 'seed'?"),
        ("seed=three", "seed: is 'three'; wanted a whole number."),
        ('seed="3"', "seed: is '3'; wanted a whole number."),
        ("seed=", "seed: is ''; wanted a whole number."),
        ("seed=1\nformat=2", "seed: is '1\\nformat=2'; wanted"),
        ("seed=" + "9" * 5000, "seed: is '999"),
        ("seed.x=1", "The override seed.x=1: there is nothing below '0'"),
        ("tasks..kind=binary", "An override is KEY=VALUE"),
        ("tasks.=1", "An override is KEY=VALUE"),
        ("tasks=1", "tasks: is 1; wanted a table."),
        ("tasks.sentimnt.kind=binary", "tasks.sentimnt.train: is missing"),
        ("stages=1", "stages: is 1; wanted a list."),
        ("stages.epochs=1", "The override stages.epochs=1: 'epochs' should be a number below 1."),
        ("stages.1.epochs=1", "The override stages.1.epochs=1: '1' should be a number below 1."),
        ("stages.-1.epochs=1", "The override stages.-1.epochs=1: '-1' should be a number below 1."),
        ("stages.²=1", "'²' should be a number below 1."),
        ("stages.0.epochs=True", "stages.0.epochs: is 'True'; wanted a number."),
        ("stages.0.train.last=x", "stages.0.train.last: is 'x'; wanted a whole number."),
        ("tasks.sentiment.head.layers=3", "tasks.sentiment.head.layers: 'linear' of the heads takes no option"),
        ("tasks.sentiment.head=[1", "tasks.sentiment.head: '[1' is not one of the heads."),
        ("tasks.sentiment.text.0=a", "there is nothing below 'sentence' that '0' could be."),
        ("encoder.layers.x=1", "there is nothing below '2' that 'x' could be."),
    ],
)
def test_a_bad_override(polytask: Polytask, tiny: Tiny, tmp_path: Path, override: str, told: str) -> None:
    (tmp_path / "my.toml").write_text(tomli_w.dumps(tiny(seed=0)), encoding="utf-8")
    for command in (("show",), ("train", "--out", tmp_path / "run"), ("train", "--dry-run", "--out", tmp_path / "run")):
        assert_told(polytask(*command, tmp_path / "my.toml", "--set", override), told)
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_here_is_told(
    polytask: Polytask, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe is right, only not here: ``show`` prints it, and training fails with code 1."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "my.toml").write_text(tomli_w.dumps(tiny(device="cuda")), encoding="utf-8")
    assert polytask("show", tmp_path / "my.toml").code == 0
    for dry in ((), ("--dry-run",)):
        said = polytask("train", tmp_path / "my.toml", "--out", tmp_path / "run", *dry)
        assert (said.code, said.out) == (1, "")
        assert (
            said.err
            == "error: Device 'cuda' is asked for, and torch sees no CUDA device here; 'cpu' is always there.\n"
        )
    assert not (tmp_path / "run").exists()


def test_what_a_checkpoint_cannot_do_is_told_at_once_and_before_any_table_is_read(
    polytask: Polytask, tiny: Tiny, tmp_path: Path
) -> None:
    config = {
        "model_type": "bert", "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 64,
    }  # fmt: skip
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    changes = {
        "encoder": {"checkpoint": "bert"}, f"{SST}.max_length": 65, f"{STS}.max_length": 100,
        "stages.0.train": {"last": 3}, f"{SST}.train": "not-there.csv",
    }  # fmt: skip
    (tmp_path / "my.toml").write_text(tomli_w.dumps(changed(tiny(), changes)), encoding="utf-8")
    assert polytask("show", tmp_path / "my.toml").code == 0
    said = polytask("train", tmp_path / "my.toml", "--out", tmp_path / "run")
    assert_told(
        said,
        f"{SST}.max_length: is 65; the encoder takes 64 tokens.",
        f"{STS}.max_length: is 100; the encoder takes 64 tokens.",
        "stages.0.train.last: is 3, and the encoder has 2 layers.",
    )
    assert "not-there" not in said.err
    assert not (tmp_path / "run").exists()


def test_what_is_no_contradiction_is_let_through(polytask: Polytask, tiny: Tiny, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "seed": 2**70,
        "precision": "bfloat16",
        f"{SST}.weight": 2,
        f"{SST}.sample": 10**9,
        f"{SST}.id": "sentence",
        "stages.0.clip": 0,
        "stages.0.micro_batch": 1000,
        "stages.0.train": {"last": 2},
        "stages.0.regularizers": [{"name": "rdrop", "weight": {name: 1}} for name in ("sentiment", "similarity")],
        "stages.0.mixing": {"name": "temperature", "tau": float("inf")},
        "tasks.Gefühl": COPY,
    }
    (tmp_path / "my.toml").write_text(tomli_w.dumps(changed(tiny(), changes)), encoding="utf-8")
    said = polytask("show", tmp_path / "my.toml")
    assert said.code == 0, said.err
