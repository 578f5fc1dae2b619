"""How fast polytask trains, beside the course's plain loop and transformers.Trainer: real tokens per second.

One pass over one fixed set of rows is a whole cycle of every system's sampler; passes of the systems take turns.
See README.md beside this file.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from polytask.assembly.parts import Parts, build
from polytask.data.batching import padding_share
from polytask.data.tables.sources import read_table
from polytask.encoder.foreign.fetch import locate
from polytask.errors import PolytaskError
from polytask.recipe.load import load_recipe
from polytask.runtime.device import DTYPES, processor_kind
from polytask.training.step import Step

try:
    import accelerate  # noqa: F401  (transformers.Trainer asks for it only when it starts)
    import transformers
    from transformers.trainer_pt_utils import get_length_grouped_indices
except ImportError as error:
    sys.exit(f"{error.name} is missing: the rivals need transformers and accelerate, pip install 'polytask[bench]'.")

SHARED = Path(__file__).resolve().parents[2] / "shared"
BATCH = 32
LEARNING_RATE = 2e-5
WEIGHT_DECAY = 0.01
TASK = "benchmark"

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pass:
    """One timed pass: what went through, how long it took, and the share of padding (0 where texts are packed)."""

    seconds: float
    tokens: int
    rows: int
    padding: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def sentences_per_second(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True)
class Bench:
    """One model, and the rows that every system passes over; ``inputs`` are the same token ids for the rivals."""

    folder: Path
    parts: Parts
    inputs: list[dict[str, Any]]
    table_rows: int
    options: argparse.Namespace

    @property
    def lengths(self) -> Rows:
        return self.parts.train_rows[TASK].lengths

    @property
    def classes(self) -> int:
        return self.parts.tasks[TASK].kind.outputs

    @property
    def collate(self) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder)
        collator: Callable[[list[dict[str, Any]]], dict[str, Tensor]] = transformers.DataCollatorWithPadding(tokenizer)
        return collator

    def pretrained(self, kind: Any, **settings: Any) -> Any:
        """Return the checkpoint as a transformers model with fp32 weights and the checkpoint's own dropout."""
        attention = self.options.attention
        return kind.from_pretrained(self.folder, dtype=torch.float32, attn_implementation=attention, **settings)

    def warm_up(self, number: int) -> Rows:
        """Return the rows of the untimed first steps of a pass, drawn at random."""
        rows: Rows = np.random.default_rng((1, number)).integers(len(self.inputs), size=self.options.warmup * BATCH)
        return rows

    def timed(self, seconds: float, rows: Rows) -> Pass:
        """Return what a pass over ``rows``, padded batch by batch, came to."""
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        return Pass(seconds, int(self.lengths[rows].sum()), len(rows), padding_share(batches, self.lengths))


class Order(Sampler[int]):
    """A sampler that yields given rows in the given order."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows.tolist())

    def __len__(self) -> int:
        return len(self.rows)


# -- the systems: each takes one pass, timed after a few steps that are not ------------------------------------------


class CourseModel(nn.Module):
    """The course's classifier: pooler, dropout, linear."""

    def __init__(self, bert: Any, classes: int) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = nn.Dropout(bert.config.hidden_dropout_prob)
        self.head = nn.Linear(bert.config.hidden_size, classes)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        logits_NC: Tensor = self.head(self.dropout(self.bert(**inputs).pooler_output))
        return logits_NC


def course(bench: Bench, number: int) -> Pass:
    """The course's way: fp32, random batches padded to their longest text, a plain loop, no clipping."""
    rows = np.random.default_rng((2, number)).permutation(evenly(bench.lengths, bench.options.course_rows))
    model = CourseModel(bench.pretrained(transformers.BertModel), bench.classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    order = Order(np.concatenate([bench.warm_up(number), rows]))
    batches: Any = DataLoader(bench.inputs, BATCH, sampler=order, collate_fn=bench.collate)  # type: ignore[arg-type]
    remaining = iter(batches)
    for _ in range(bench.options.warmup):
        course_step(model, optimizer, next(remaining))
    started = time.perf_counter()
    for batch in remaining:
        course_step(model, optimizer, batch)
    return bench.timed(time.perf_counter() - started, rows)


def course_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> float:
    """Take one step and return its loss."""
    optimizer.zero_grad()
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    loss = F.cross_entropy(model(inputs), batch["labels"])
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


class Clock(transformers.TrainerCallback):  # type: ignore[misc]
    """Times a Trainer from the end of its last warm-up step to the end of its last step."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.started = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.ended = time.perf_counter()
        if state.global_step == self.warmup:
            self.started = self.ended


class OrderedTrainer(transformers.Trainer):  # type: ignore[misc]
    """A Trainer as it stands, but for the sampler, which yields given rows."""

    order: Order

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self.order


def trainer(bench: Bench, number: int) -> Pass:
    """transformers.Trainer, bf16, random batches."""
    return trainer_pass(bench, number, np.random.default_rng((3, number)).permutation(len(bench.inputs)))


def trainer_grouped(bench: Bench, number: int) -> Pass:
    """transformers.Trainer, bf16, batches as its group_by_length draws them from the whole table."""
    # transformers' own rule for the size of a mega-batch, asked for the table and not for the rows drawn from it.
    batches = max(min(bench.table_rows // (BATCH * 4), 50), 1)
    generator = torch.Generator().manual_seed(number)
    lengths = bench.lengths.tolist()
    rows = get_length_grouped_indices(lengths, BATCH, mega_batch_mult=batches, generator=generator)
    return trainer_pass(bench, number, np.asarray(rows))


def trainer_pass(bench: Bench, number: int, rows: Rows) -> Pass:
    """Run a new Trainer over the warm-up rows and then ``rows``."""
    model = bench.pretrained(transformers.AutoModelForSequenceClassification, num_labels=bench.classes)
    clock = Clock(bench.options.warmup)
    with TemporaryDirectory() as folder:
        running = OrderedTrainer(
            model=model,
            args=trainer_arguments(folder, number),
            train_dataset=bench.inputs,
            data_collator=bench.collate,
            callbacks=[clock],
        )
        running.remove_callback(transformers.PrinterCallback)
        running.order = Order(np.concatenate([bench.warm_up(number), rows]))
        running.train()
    return bench.timed(clock.ended - clock.started, rows)


def trainer_arguments(folder: str, seed: int) -> Any:
    """Return the Trainer's settings; whatever is not named is its default (max_grad_norm is 1)."""
    return transformers.TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        optim="adamw_torch_fused",
        bf16=True,
        use_cpu=True,
        seed=seed,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def polytask(bench: Bench, number: int) -> Pass:
    """polytask's own step, in its default precision."""
    parts, stage = bench.parts, bench.parts.stages[0]
    step = Step(
        parts.model, parts.tasks, parts.train_rows, stage, seed=parts.recipe.seed, dtype=DTYPES[parts.recipe.precision]
    )
    for place in range(bench.options.warmup):
        step(place)
    started = time.perf_counter()
    # Pass 0 of the stage is left to the warm-up: the steps of pass ``number`` are timed, all of them.
    results = [step(place) for place in range(number * stage.epoch_steps, (number + 1) * stage.epoch_steps)]
    seconds = time.perf_counter() - started
    step.release()
    return Pass(seconds, sum(result.tokens for result in results), sum(result.rows for result in results), 0.0)


SYSTEMS: dict[str, Callable[[Bench, int], Pass]] = {
    "course": course,
    "trainer": trainer,
    "trainer-grouped": trainer_grouped,
    "polytask": polytask,
}


# -- rows ------------------------------------------------------------------------------------------------------------


def evenly(lengths: Rows, wanted: int) -> Rows:
    """Return ``wanted`` rows spread evenly over all lengths, or all rows when there are no more than that."""
    sorted_rows = np.argsort(lengths, kind="stable")
    if not 0 < wanted < len(sorted_rows):
        return sorted_rows
    return sorted_rows[((np.arange(wanted) + 0.5) * len(sorted_rows) / wanted).astype(np.int64)]


def new_bench(model: str, options: argparse.Namespace) -> Bench:
    """Build polytask's parts from a recipe, and hand the rivals the very token ids that polytask's rows have."""
    loaded = load_recipe(recipe(model, options))
    parts = build(loaded, lambda text: print(text, file=sys.stderr))
    rows = parts.train_rows[TASK]
    assert rows.labels_N is not None
    inputs: list[dict[str, Any]] = []
    for row, label in enumerate(rows.labels_N.tolist()):
        ids, types = rows.layout.tokenizer.join([rows.columns[0][row]], rows.layout.max_length)
        inputs.append(
            {
                "input_ids": ids.tolist(),
                "token_type_ids": types.tolist(),
                "attention_mask": [1] * len(ids),
                "labels": label,
            }
        )
    table_rows = len(read_table(options.table, [options.label]).columns[options.label])
    return Bench(locate(model), parts, inputs, table_rows, options)


def recipe(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe of a stage with one classification task, as a person would write it."""
    task = {
        "kind": "classification",
        "train": str(options.table),
        "text": options.text,
        "label": options.label,
        "max_rows": options.rows or None,
        "max_length": options.max_length,
    }
    stage = {
        "epochs": options.rounds + 1,
        "batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "clip": 1.0,
    }
    return {"device": "cpu", "encoder": {"checkpoint": model}, "tasks": {TASK: task}, "stages": [stage]}


# -- measuring and telling -------------------------------------------------------------------------------------------


def measure(bench: Bench, name: str) -> dict[str, list[Pass]]:
    """Let the systems take turns; each round begins with another one. Returns each system's passes, by round."""
    systems: list[str] = bench.options.systems
    passes: dict[str, list[Pass]] = {system: [] for system in systems}
    for number in range(1, bench.options.rounds + 1):
        turn = (number - 1) % len(systems)
        for system in systems[turn:] + systems[:turn]:
            passes[system].append(SYSTEMS[system](bench, number))
            gc.collect()
            done = passes[system][-1]
            note = f"{name}, round {number}, {system}: {done.tokens_per_second:,.0f} tokens/s in {done.seconds:.1f} s"
            print(note, file=sys.stderr)
    return passes


def ratios(passes: dict[str, list[Pass]]) -> dict[str, list[float]]:
    """Return, for each rival, how many times its tokens per second polytask processes, round by round."""
    own = passes.get("polytask", [])
    return {
        rival: [mine.tokens_per_second / its.tokens_per_second for mine, its in zip(own, theirs, strict=True)]
        for rival, theirs in passes.items()
        if own and rival != "polytask"
    }


def table(name: str, passes: dict[str, list[Pass]]) -> str:
    """Return what was measured with one model, as lines to print."""
    lines = [f"{name}", f"  {'':<18}{'real tokens/s':>30}{'sentences/s':>28}{'padding':>10}{'rows':>8}"]
    for system, taken in passes.items():
        tokens = spread([one.tokens_per_second for one in taken], ",.0f")
        sentences = spread([one.sentences_per_second for one in taken], ",.1f")
        padding = median(one.padding for one in taken)
        lines.append(f"  {system:<18}{tokens:>30}{sentences:>28}{padding:>10.1%}{taken[0].rows:>8}")
    for rival, values in ratios(passes).items():
        lines.append(f"  {'polytask / ' + rival:<28}{spread(values, '.2f'):>20}")
    return "\n".join(lines)


def spread(values: Sequence[float], form: str) -> str:
    """Return ``median (least – greatest)``."""
    return f"{median(values):{form}} ({min(values):{form}} – {max(values):{form}})"


def setting(bench: Bench) -> dict[str, Any]:
    """Return what the figures depend on."""
    packages = ("torch", "transformers", "accelerate", "polytask")
    return {
        "processor": processor_kind(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "versions": {package: version(package) for package in packages},
        "precision": {"polytask": bench.parts.recipe.precision, "trainer": "bfloat16", "course": "float32"},
        "attention of transformers": bench.options.attention,
        "table": bench.options.table.name,
        "rows": len(bench.inputs),
        "tokens": int(bench.lengths.sum()),
        "classes": bench.classes,
        "batch": BATCH,
        "course": f"{len(evenly(bench.lengths, bench.options.course_rows))} of the rows, spread evenly over all lengths",
        "rounds": bench.options.rounds,
        "warm-up steps": bench.options.warmup,
    }


def as_json(passes: dict[str, list[Pass]]) -> dict[str, Any]:
    """Return one model's passes and ratios as JSON."""
    systems = {
        system: {
            "tokens_per_second": [round(one.tokens_per_second, 2) for one in taken],
            "sentences_per_second": [round(one.sentences_per_second, 3) for one in taken],
            "padding": [round(one.padding, 4) for one in taken],
            "rows": taken[0].rows,
        }
        for system, taken in passes.items()
    }
    return {"systems": systems, "ratios": {r: [round(v, 4) for v in values] for r, values in ratios(passes).items()}}


def run(options: argparse.Namespace) -> None:
    """Measure every model and print what came of it."""
    found: dict[str, Any] = {"models": {}}
    for model in options.models:
        bench = new_bench(model, options)
        if "setting" not in found:
            found["setting"] = setting(bench)
            print("\n".join(f"{key}: {value}" for key, value in found["setting"].items()), flush=True)
        name = Path(model).name
        passes = measure(bench, name)
        found["models"][name] = as_json(passes)
        print(f"\n{table(name, passes)}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def positive(text: str) -> int:
    """Read a whole number above 0."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    bert = SHARED / "models" / "bert-base-uncased"
    models = ["minilm", *([str(bert)] if bert.is_dir() else [])]
    sst = SHARED / "data" / "cs224n" / "ids-sst-train.csv"
    parser.add_argument("--models", nargs="+", default=models, help="folders of BERT checkpoints, or minilm")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="who takes part")
    parser.add_argument("--table", type=Path, default=sst, help="the table to train on")
    parser.add_argument("--text", default="sentence", help="its text column")
    parser.add_argument("--label", default="sentiment", help="its label column")
    parser.add_argument("--rows", type=positive, default=1600, help="rows of a pass, drawn once from the table")
    parser.add_argument("--course-rows", type=positive, default=320, help="rows of a pass of the course's way")
    parser.add_argument("--rounds", type=positive, default=3, help="passes of each system")
    parser.add_argument("--warmup", type=positive, default=3, help="untimed steps before each pass")
    parser.add_argument("--max-length", type=positive, default=128, help="tokens of a text at most")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="the rivals' attention")
    parser.add_argument("--threads", type=positive, help="threads of torch; what torch takes when not given")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every pass to this file too")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark that the command line asks for."""
    options = arguments()
    if not options.table.is_file():
        sys.exit(f"There is no table {options.table}; name one with --table (and --text, --label).")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        run(options)
    except PolytaskError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
