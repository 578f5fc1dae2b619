"""Progress on the terminal: a bar where there is one, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from polytask.run.events import StepResult
from polytask.run.listen import Watcher
from polytask.run.scores import RunScores, Scores

console = Console(emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)

_SECONDS_BETWEEN_LINES = 20.0


class Terminal(Watcher):
    """Shows loss, rate and time left on standard error."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=errors,
            disable=not errors.is_terminal,
        )
        self._task: TaskID | None = None
        self._losses: dict[str, float] = {}
        self._steps = 0
        self._tokens = 0
        self._since = self._said = time.perf_counter()
        self._first = 0

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def stage(self, number: int, stages: int, start: int, steps: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        name = "training" if stages == 1 else f"stage {number + 1} of {stages}"
        self._task = self._bar.add_task(name, total=steps, completed=start, state="")
        self._steps, self._first, self._tokens = steps, start, 0
        self._since = self._said = time.perf_counter()

    def step(self, step: int, result: StepResult) -> None:
        for task, loss in result.losses.items():
            self._losses[task] = 0.95 * self._losses.get(task, loss) + 0.05 * loss
        self._tokens += result.tokens
        now = time.perf_counter()
        rate = self._tokens / (now - self._since)
        losses = "  ".join(f"{task} {loss:.3f}" for task, loss in self._losses.items())
        state = f"loss {losses}  {rate:,.0f} tokens/s"
        if self._task is not None:
            self._bar.update(self._task, completed=step, state=state)
        if not errors.is_terminal and now - self._said > _SECONDS_BETWEEN_LINES:
            self._said = now
            left = (now - self._since) / (step - self._first) * (self._steps - step)
            errors.print(f"step {step} of {self._steps}  {state}  {clock(left)} left", soft_wrap=True)

    def evaluating(self, task: str, rows: int, done: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, state=f"evaluating {task}: {done:,} of {rows:,} rows")

    def evaluated(self, epoch: float, scores: Mapping[str, Scores], aggregate: float, best: bool) -> None:
        parts = [f"{task} {first_two(found)}" for task, found in scores.items()]
        errors.print(
            f"epoch {epoch:g}: {'  '.join(parts)}  aggregate {aggregate:.4f}{'  (best so far)' if best else ''}",
            soft_wrap=True,
        )

    def note(self, text: str) -> None:
        errors.print(f"note: {text}", soft_wrap=True, markup=False)


def first_two(scores: Scores) -> str:
    """Return the first two metrics of a task."""
    return " ".join(f"{name} {value:.4f}" for name, value in [*scores.values.items()][:2])


def scores_table(scores: RunScores) -> Table:
    """Return scores as a table, a line for each metric of each task."""
    table = Table("task", "rows", "metric", "value")
    for task, found in scores.tasks.items():
        for place, (metric, value) in enumerate(found.values.items()):
            table.add_row(task if place == 0 else "", f"{found.rows:,}" if place == 0 else "", metric, f"{value:.4f}")
    table.add_row("aggregate", "", "", f"{scores.aggregate:.4f}", style="bold")
    return table


def clock(seconds: float) -> str:
    """Return a duration in words: "45 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
