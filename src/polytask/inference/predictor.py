"""A trained model: predict texts, score tables. Shapes: N rows, C logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, device

from polytask.assembly.encoder import check_vocabulary, save_encoder
from polytask.assembly.model import new_model
from polytask.assembly.opened import new_tasks, open_encoder, open_model, open_run, open_tokenizer
from polytask.assembly.rows import task_rows
from polytask.data.rows import TaskRows
from polytask.data.tables.examples import Examples, read_examples
from polytask.data.tables.layout import Layout
from polytask.data.tables.problems import Policy
from polytask.data.tables.sources import Source, suffix
from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder
from polytask.errors import RunFolderError, TableError, UserError, listed, nearest
from polytask.evaluation.aggregates.base import aggregates
from polytask.evaluation.formats.base import Labels
from polytask.evaluation.predicting import predict, predict_logits
from polytask.evaluation.predictions import Predictions, predictions_file
from polytask.evaluation.scoring import aggregated, score
from polytask.evaluation.swap import swap_gap
from polytask.model import Model
from polytask.recipe.facts import layout_of
from polytask.recipe.settings import Recipe
from polytask.registry import load_members
from polytask.run.folder import RunFolder
from polytask.run.index import Index
from polytask.run.scores import RunScores, Scores
from polytask.run.tensors import copy_into, load_tensors
from polytask.runtime.device import DTYPES, pick_device
from polytask.tasks.task import Task

CHUNK = 16_384
"""Rows of a table that are predicted at a time."""


def load(
    run: str | PathLike[str],
    *,
    checkpoint: str = "best",
    device: str | None = None,
    members: str | Path | None = None,
) -> Predictor:
    """Return the model of a run folder: its "best" checkpoint, the "last", or "best-TASK".

    ``members`` is a folder of members from outside that the run was trained with. Raises RunFolderError when the folder
    is none, or lacks that checkpoint or a member.
    """
    if members is not None:
        load_members(members)
    folder, loaded, notes = open_run(Path(run))
    recipe = loaded.recipe
    where = pick_device(device or recipe.device)
    encoder, tokenizer = open_encoder(folder), open_tokenizer(folder)
    check_vocabulary(encoder, tokenizer, str(folder.tokenizer))
    tasks = new_tasks(recipe, encoder)
    model = open_model(folder, recipe, tasks, encoder)
    index = folder.read_index()
    path = folder.checked(_weights(folder, index, checkpoint, recipe), index)
    copy_into(model, load_tensors(path), path)
    for task in tasks:
        _compute_in(model.encoder(task), recipe.precision)
    fingerprints = notes.get("fingerprints", {})
    return Predictor(recipe, tasks, model.to(where).eval(), tokenizer, where, loaded.base, path, fingerprints)


@dataclass(frozen=True)
class Predictor:
    """The model of a run, ready to predict. Made by ``load``."""

    recipe: Recipe
    tasks: dict[str, Task]
    model: Model
    tokenizer: Tokenizer
    device: device
    base: Path
    weights: Path
    fingerprints: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Predictor({str(self.base)!r}, tasks: {', '.join(self.tasks)})"

    def predict(
        self, task: str, texts: Iterable[str] | Iterable[tuple[str, str]] | Any, *, probabilities: bool = False
    ) -> list[Any]:
        """Return a prediction for each text, or each pair of texts: a label's name, or a number for scores.

        ``texts`` is a list, a tuple, a Series, an array, an iterator, or a DataFrame with the columns of training.

        With ``probabilities``, a dict for each: "id" (its place), "prediction", and "probabilities" by label.
        Raises UserError for an unknown task or texts that do not fit it.
        """
        record = self.task(task)
        columns = _columns(record, texts)
        if not columns[0]:
            return []
        ids = [str(n) for n in range(len(columns[0]))]
        data = Examples("texts", columns, [], ids, [], "row", 0, "")
        predicted = self._predicted(record, task_rows(data, record, self.tokenizer, cache=False))
        return predicted.records() if probabilities else predicted.shown

    def predict_table(
        self, task: str, table: Source, output: str | Path, format: str = "csv", text: Sequence[str] = ()
    ) -> int:
        """Predict a table, labels not needed, into a file; ids and order are kept. Returns the number of rows.

        ``format`` is a member of the formats: "csv" (id, prediction, a column for each probability), "jsonl",
        "parquet" or "cs224n".
        ``text`` names the text columns if they are not those of training. Every row must be usable: a prediction
        that is silently missing would be worse than an error. However long the table is, ``CHUNK`` rows of it are in
        memory.
        """
        record, output = self.task(task), Path(output)
        columns = list(text) or list(record.text)
        if len(columns) != len(record.text):
            raise UserError(f"Task '{task}' reads {len(record.text)} text column(s); {len(columns)} are named.")
        if isinstance(table, str | Path) and output.exists() and Path(table).exists() and output.samefile(table):
            raise UserError(
                f"{output} is the table itself; its predictions would take its place; name another file for them."
            )
        data = read_examples(table, columns, None, record.id, "refuse", layout=self._layout(task, table))
        column = record.label if isinstance(record.label, str) else "labels"
        labels = Labels(column, dict(zip(record.kind.names, record.kind.spellings, strict=True)))
        with predictions_file(output, labels, format) as write:
            for start in range(0, len(data), CHUNK):
                some = data.take(range(start, min(start + CHUNK, len(data))))
                rows = task_rows(some, record, self.tokenizer, cache=False)
                write(self._predicted(record, rows))
        return len(data)

    def evaluate_table(self, task: str, table: Source) -> Scores:
        """Score a labelled table. Raises TableError for rows without a label, or with one that training never had."""
        record = self.task(task)
        settings = self.recipe.tasks[task]
        bad_rows: Policy = "skip" if settings.bad_rows == "skip" else "refuse"
        data = read_examples(
            table, record.text, record.label or None, record.id, bad_rows, record.kind.encode, self._layout(task, table)
        )
        if not len(data):
            raise TableError(f"{data.name}: no usable row is left ({data.skipped} were skipped).")
        return self._scores(record, task_rows(data, record, self.tokenizer, cache=False))

    def _layout(self, task: str, table: Source) -> Layout:
        """Return how a table is laid out: as that which the task was trained on, where its suffix is the same."""
        settings = self.recipe.tasks[task]
        alike = isinstance(table, str | Path) and isinstance(settings.train, str)
        if alike and suffix(Path(str(table))) == suffix(Path(str(settings.train))):
            return layout_of(settings)
        return Layout(missing=layout_of(settings).missing)

    def evaluate(self, split: str = "dev", only: str | None = None) -> RunScores:
        """Score every task (or ``only`` one) on the run's own dev or train tables; of a pair task, the swap gap as well.

        Auxiliary tasks are passed over.

        Raises TableError for tables that have changed since: where dev is a share of train, it would be another share.
        """
        if only is not None and self.task(only).auxiliary:
            raise UserError(
                f"Task '{only}' is auxiliary: it is not evaluated with the others. Give it a table to score."
            )
        from polytask.assembly.tables import check_unchanged, read_tables

        tables = read_tables(self.recipe, self.base, lambda text: None)
        check_unchanged(self.fingerprints, tables, self.base)
        scores: dict[str, Scores] = {}
        judged = {name: task for name, task in self.tasks.items() if not task.auxiliary}
        if not judged:
            raise UserError(
                "Every task of this run is auxiliary: none is evaluated. Give one of them a table to score."
            )
        chosen = judged if only is None else {only: self.task(only)}
        for name, task in chosen.items():
            data = tables[name].train if split == "train" else tables[name].dev
            if data is not None:
                scores[name] = self._scores(task, task_rows(data, task, self.tokenizer))
        if not scores:
            raise UserError(f"There is no {split} table of {listed(chosen)} in this run.")
        return self.together(scores)

    def together(self, scores: Mapping[str, Scores]) -> RunScores:
        """Return the scores of some tasks, with the aggregate that the run's checkpoints are judged by."""
        metrics = {name: task.metrics for name, task in self.tasks.items()}
        chosen = self.recipe.aggregate
        return RunScores(scores, aggregated(scores, metrics, aggregates.create(chosen.name, **chosen.options)))

    def save_encoder(self, folder: Path | str, task: str | None = None) -> None:
        """Save the fine-tuned encoder and tokenizer in Hugging Face layout, for ``transformers.AutoModel`` and others.

        Where tasks have encoders of their own, ``task`` says whose. Raises UserError when that is left open, and for
        an encoder that Hugging Face has no layout for (the LSTM).
        """
        if task is None and len(self.model.encoders) > 1:
            raise UserError(f"This run has the encoders {listed(self.model.encoders)}; name a task to say which.")
        chosen = next(iter(self.tasks)) if task is None else self.task(task).name
        model = new_model(open_encoder(RunFolder.open(self.base)), self.tasks, self.recipe)
        copy_into(model, load_tensors(self.weights), self.weights)
        save_encoder(model.encoder(chosen), Path(folder), self.tokenizer.json)

    def logits(self, task: Task, rows: TaskRows) -> Tensor:
        """Return the logits ``(N, C)`` of rows."""
        return predict_logits(self.model, task, rows, self.device)

    def _scores(self, task: Task, rows: TaskRows) -> Scores:
        logits_NC = self.logits(task, rows)
        scores = score(predict(task.kind, logits_NC, rows.ids, rows.labels_N), task.metrics)
        if len(task.text) == 1 or "symmetric" not in task.kind.takes:  # a cosine knows no order
            return scores
        gap = swap_gap(task, logits_NC, self.logits(task, rows.swapped()))
        return replace(scores, values={**scores.values, **gap})

    def _predicted(self, task: Task, rows: TaskRows) -> Predictions:
        return predict(task.kind, self.logits(task, rows), rows.ids)

    def task(self, name: str) -> Task:
        """Return a task's record. Raises UserError that names the near miss."""
        if name not in self.tasks:
            raise UserError(f"This run has no task '{name}'.{nearest(name, self.tasks)} It has {listed(self.tasks)}.")
        return self.tasks[name]


def _columns(task: Task, texts: Any) -> list[list[str]]:
    """Return the texts of each column: of a list or whatever can be gone through, or of a frame's columns by name."""
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        given = "one string" if isinstance(texts, str) else f"a {type(texts).__name__}"
        raise UserError(f"Task '{task.name}' predicts a list of texts; it was given {given}.")
    pair = len(task.text) == 2
    rows = _of_frame(task, texts) if hasattr(texts, "columns") else texts
    columns: list[list[str]] = [[] for _ in task.text]
    for place, row in enumerate(rows):
        row = row.tolist() if hasattr(row, "tolist") else row  # an array's
        cells = list(row) if pair and isinstance(row, tuple | list) else [row]
        if len(cells) != len(columns) or not all(isinstance(cell, str) for cell in cells):
            wanted = "a pair of texts" if pair else "a text"
            raise UserError(f"Task '{task.name}' takes {wanted} at each place; at place {place} there is {row!r:.80}.")
        for column, cell in zip(columns, cells, strict=True):
            if any("\ud800" <= letter <= "\udfff" for letter in cell) and not cell.isascii():
                raise UserError(
                    f"Task '{task.name}': the text at place {place} has half of a surrogate pair, which is no text."
                )
            column.append(cell)
    return columns


def _of_frame(task: Task, frame: Any) -> Iterable[Any]:
    names = [str(column) for column in frame.columns]
    for column in task.text:
        if column not in names:
            raise UserError(f"The frame has no column '{column}'.{nearest(column, names)} It has {listed(names)}.")
    columns = [list(frame[column]) for column in task.text]
    return columns[0] if len(columns) == 1 else zip(*columns, strict=True)


def _weights(folder: RunFolder, index: Index, checkpoint: str, recipe: Recipe) -> Path:
    names = {"best": index.best or index.last, "last": index.last}
    names |= {f"best-{task}": index.best_of.get(task) for task in recipe.tasks}
    if checkpoint not in names:
        raise UserError(
            f"There is no checkpoint '{checkpoint}'.{nearest(checkpoint, names)} There are {listed(names)}."
        )
    name = names[checkpoint]
    if name is None or index.stage == index.step == 0:
        raise RunFolderError(f"{folder.path} has no checkpoint '{checkpoint}' yet.")
    return folder.weights(name)


def _compute_in(encoder: Encoder, precision: str) -> None:
    encoder.compute = DTYPES[precision]
    for parameter in encoder.shadowed():
        parameter.data = parameter.data.to(encoder.compute)
