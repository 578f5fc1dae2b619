"""The commands."""

from __future__ import annotations

import json
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from polytask import __version__
from polytask.errors import PolytaskError, UserError, one_line

from . import progress

if TYPE_CHECKING:
    from polytask.jobs.dry import Outlook

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog="Errors are one sentence; `--debug` anywhere shows where they come from. "
    "Exit codes: 0 done, 1 the run failed, 2 a recipe, table or argument is wrong, 130 interrupted.",
)
weights_app = typer.Typer(help="Pretrained weights that polytask can fetch.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a key of the recipe, as tasks.sst.head.layers=3."),
]
RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of a bundled recipe.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Checkpoint = Annotated[str, typer.Option(help='"best", "last", or "best-TASK".')]
Device = Annotated[str | None, typer.Option(help='"cpu", "cuda" or "mps"; that of the training by default.')]


def _bring(members: Path | None) -> Path | None:
    if members is not None:
        from polytask.registry import load_members

        load_members(members)
    return members


Members = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", callback=_bring, help="A folder whose .py files bring members of the open rooms."),
]

REMEDIES = {
    "out": "Give another --out.",
    "resume or out": "Give another --out, or `polytask resume` it.",
    "members": "Install that package, or name the folder with --members.",
    "elsewhere": "Go on all the same with --elsewhere.",
    "resume": "Go on with: polytask resume {name}",
    "room": "Make room, then go on with: polytask resume {name}",
}
"""What helps, in this command line's words."""


class Split(StrEnum):
    dev = "dev"
    train = "train"


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"polytask {__version__}")
        raise typer.Exit


def _format(name: str) -> str:
    from polytask.evaluation.formats.base import formats

    try:
        formats.member(name)
    except PolytaskError as error:
        raise typer.BadParameter(str(error)) from error
    return name


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Fine-tune one encoder on several sentence tasks at once, and put the result to work."""


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="A new folder for tables, recipe and run.")] = Path("quickstart"),
) -> None:
    """Train three small tasks on tables that polytask makes itself, and show what to type next."""
    from polytask.starter.quickstart import quickstart as run_quickstart

    with progress.Terminal() as watcher:
        result = run_quickstart(out, [watcher])
    progress.console.print(progress.scores_table(result.scores))
    progress.console.print(f"\nEverything lies in {result.folder}:", highlight=False)
    for place, what in result.places:
        progress.console.print(f"  {place}  {what}", highlight=False, soft_wrap=True)
    progress.console.print("\nWhat to type next:", highlight=False)
    for command in result.commands:
        progress.console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def init(
    tables: Annotated[
        list[str], typer.Argument(metavar="TABLE…", help="Labelled tables; x-train and x-dev make one task.")
    ],
    out: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("recipe.toml"),
    text: Annotated[list[str] | None, typer.Option(help="The text column; twice for a pair.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="The label column; several times for columns of 0 and 1.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="What a label is: see polytask list kinds.")] = None,
    dev: Annotated[Path | None, typer.Option(help="The dev table, for a single task.")] = None,
    format: Annotated[str | None, typer.Option(help="What the files are: csv, tsv, jsonl, json, label, …")] = None,
    delimiter: Annotated[str | None, typer.Option(help="The character between two fields.")] = None,
    quote: Annotated[str | None, typer.Option(help="The character around a field, or none.")] = None,
    encoding: Annotated[str | None, typer.Option(help="The encoding of the files.")] = None,
    header: Annotated[bool | None, typer.Option("--header/--no-header", help="Whether the first line is one.")] = None,
    columns: Annotated[str | None, typer.Option(help="Names of the columns, with commas between them.")] = None,
    missing: Annotated[list[str] | None, typer.Option(help="A cell that stands for no value.")] = None,
) -> None:
    """Look at tables and write a first recipe."""
    from polytask.data.tables.layout import Layout
    from polytask.starter.first import first_recipe
    from polytask.starter.survey import Choices

    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    layout = Layout(format, delimiter, quote, encoding, header, names, tuple(missing or ()))
    choices = Choices(tuple(text or ()), tuple(label or ()), kind, layout)
    for note in first_recipe(tables, out, choices, dev):
        progress.errors.print(f"note: {note}", soft_wrap=True, markup=False)
    typer.echo(f"Wrote {out}. Look through it, then: polytask train {out} --out runs/first")


@app.command()
def show(recipe: RecipeArgument, set: Set = None, members: Members = None) -> None:
    """Print a recipe with presets, overrides and every default visible."""
    from polytask.assembly.encoder import glance
    from polytask.recipe.facts import with_poolings
    from polytask.recipe.load import load_recipe
    from polytask.recipe.show import spelt_out
    from polytask.recipe.toml import to_toml

    loaded = load_recipe(recipe, set or ())
    outline = glance(loaded.recipe.encoder, loaded.base)
    known = outline is not None or loaded.recipe.encoder.checkpoint is None
    shown = with_poolings(loaded.recipe, None if outline is None else outline.pooling_hint) if known else loaded.recipe
    typer.echo(to_toml(spelt_out(shown)), nl=False)
    if not known:
        typer.echo("note: the checkpoint is yet to be fetched; it says how texts are pooled.", err=True)


@app.command()
def train(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="The run folder to write; it must not be there yet.")],
    set: Set = None,
    members: Members = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, try a step and a small evaluation, estimate the time.")
    ] = False,
) -> None:
    """Train a recipe into a new run folder."""
    from polytask.jobs.dry import dry_run as try_out
    from polytask.jobs.train import train as train_recipe

    if dry_run:
        _show_outlook(try_out(recipe, set or (), progress.Terminal().note))
        return
    with progress.Terminal() as watcher:
        train_recipe(recipe, out, overrides=set or (), listeners=[watcher])
    _say_done(out)


@app.command()
def resume(
    run: RunArgument,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="Go on although processor, torch or threads are not those of the start.")
    ] = False,
    members: Members = None,
) -> None:
    """Go on with an interrupted run; the result is bit for bit what it would have been."""
    from polytask.jobs.train import resume as resume_run

    with progress.Terminal() as watcher:
        resume_run(run, elsewhere=elsewhere, listeners=[watcher])
    _say_done(run)


@app.command("verify-resume")
def verify_resume(
    recipe: RecipeArgument,
    set: Set = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps of each stage that are trained.")] = 24,
    kills: Annotated[
        int, typer.Option(min=1, help="How often to kill: half of them in the middle of a checkpoint.")
    ] = 8,
    out: Annotated[Path | None, typer.Option(help="A new folder to keep both runs in; else they go.")] = None,
) -> None:
    """Prove on this machine that a recipe's run survives being killed: train briefly, kill at random points, compare."""
    from polytask.jobs.verify import verify_resume as verify

    watcher = progress.Terminal()
    report = verify(recipe, set or (), steps=steps, kills=kills, out=out, note=watcher.note)
    plural = "s" if len(report.kills) > 1 else ""
    typer.echo(
        f"Killed {len(report.kills)} time{plural} ({report.in_checkpoints} while a checkpoint was being written), "
        f"{report.repeated} steps were taken again in a run of {report.steps}, resuming took {report.resume_seconds:.1f} s "
        "at most until training went on."
    )
    typer.echo(f"Identical to the uninterrupted run, bit for bit: {', '.join(report.compared)}.")


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[Split, typer.Option(help="Which of the run's own tables.")] = Split.dev,
    task: Annotated[str | None, typer.Option(help="Only this task; needed with --data.")] = None,
    data: Annotated[str | None, typer.Option(help="Score this labelled table instead of the run's own.")] = None,
    checkpoint: Checkpoint = "best",
    device: Device = None,
    members: Members = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score a run on its dev or train tables, or on any labelled table."""
    from polytask.inference.predictor import load

    if data is not None and task is None:
        raise UserError("--data needs --task: which of the run's tasks is this table for?")
    predictor = load(run, checkpoint=checkpoint, device=device)
    if data is not None and task is not None:
        result = predictor.together({task: predictor.evaluate_table(task, data)})
    else:
        result = predictor.evaluate(split.value, task)
    if as_json:
        typer.echo(json.dumps(result.to_json()))
    else:
        progress.console.print(progress.scores_table(result))


@app.command()
def predict(
    run: RunArgument,
    table: Annotated[str, typer.Argument(metavar="FILE", help="A table; labels are not needed.")],
    task: Annotated[str, typer.Option(help="The task to predict.")],
    output: Annotated[Path, typer.Option(help="The file to write; - is stdout.")],
    text: Annotated[
        list[str] | None, typer.Option(help="A text column, if not that of training; twice for pairs.")
    ] = None,
    format: Annotated[
        str, typer.Option(callback=_format, help="Format of the output: see `polytask list formats`.")
    ] = "csv",
    checkpoint: Checkpoint = "best",
    device: Device = None,
    members: Members = None,
) -> None:
    """Predict a table; ids and order are kept."""
    from polytask.inference.predictor import load

    rows = load(run, checkpoint=checkpoint, device=device).predict_table(task, table, output, format, text or ())
    aside = str(output) == "-" or not output.is_file()  # what was written may have gone where this would go, too
    typer.echo(f"Wrote {rows:,} predictions to {output}.", err=aside)


@app.command("list")
def list_members(
    room: Annotated[str | None, typer.Argument(metavar="ROOM", help="One room; all by default.")] = None,
    member: Annotated[str | None, typer.Argument(metavar="MEMBER", help="A member: all that there is to know.")] = None,
    members: Members = None,
) -> None:
    """List the members of the open rooms with a line on each, or describe one with its options."""
    from polytask.recipe.catalogue import catalogue, description

    if room is not None and member is not None:
        typer.echo(_plain(description(room, member)))
        return
    for name, found in catalogue(room).items():
        progress.console.print(f"[bold]{name}[/bold]")
        width = max(map(len, found), default=0)
        for member, summary in found.items():
            progress.console.print(f"  {member:<{width}}  {escape(_plain(summary))}", highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    """Return a docstring's text as a terminal shows it best: names between single backticks."""
    return text.replace("``", "`")


@app.command()
def schema(members: Members = None) -> None:
    """Print the JSON Schema of a recipe."""
    from polytask.recipe.schema import recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=1))


@weights_app.command("get")
def weights_get(name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `list`, or a hub id.")]) -> None:
    """Fetch pretrained weights into the cache and print where they are."""
    from polytask.encoder.foreign.fetch import get

    typer.echo(get(name))


@weights_app.command("list")
def weights_list() -> None:
    """List the weights that have a name of their own."""
    from polytask.encoder.foreign.fetch import listing

    for row in listing():
        state = f"cached in {row.cached}" if row.cached else "not fetched yet"
        progress.console.print(
            f"{row.name}  {row.megabytes} MB  {row.where}  {row.licence}  {state}\n  {row.note}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


@weights_app.command("path")
def weights_path(name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `list`, or a hub id.")]) -> None:
    """Print where cached weights are."""
    from polytask.encoder.foreign.fetch import path

    typer.echo(path(name))


def main() -> None:
    """Run the command line; foreseen errors become one sentence and an exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        app(arguments, prog_name="polytask")
        return
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        app(arguments, prog_name="polytask")
    except _Interrupted:
        _leave("Stopped at once. A run that had begun is as at its last checkpoint: polytask resume RUN.", 130)
    except PolytaskError as error:
        _leave(error.worded(REMEDIES), error.exit_code)
    except Exception as error:
        _leave(f"polytask did not foresee this: {type(error).__name__}: {error} (--debug shows where).", 1)
    finally:
        signal.signal(signal.SIGINT, before)


class _Interrupted(BaseException):
    """Ctrl-C. Not a KeyboardInterrupt: of that typer would make its own message and exit code."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def _leave(message: str, code: int) -> NoReturn:
    safe = "\n".join(one_line(line) for line in message.split("\n"))
    progress.errors.print(f"error: {safe}", soft_wrap=True, markup=False)
    sys.exit(code)


def _say_done(run: Path) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # one of several processes that torchrun started; the first one speaks
    typer.echo(f"Done. The run lies in {run}. Next: polytask evaluate {run}, or")
    typer.echo(f"  polytask predict {run} --task TASK FILE --output predictions.csv")


def _show_outlook(outlook: Outlook) -> None:
    table = Table("task", "train rows", "dev rows", "tokens a row", "truncated", "padding")
    for name, task in outlook.tasks.items():
        counts = (f"{task.train:,}", f"{task.dev:,}", f"{task.tokens:.1f}", f"{task.truncated:,}")
        table.add_row(name, *counts, f"0 % packed ({task.padding:.2%} if padded)")
    progress.console.print(table)
    for number, (steps, seconds) in enumerate(zip(outlook.steps, outlook.seconds, strict=True), 1):
        typer.echo(f"Stage {number}: {steps:,} steps, about {progress.clock(seconds)}.")
    typer.echo(f"Evaluations: about {progress.clock(outlook.evaluation_seconds)} in all.")
    total = progress.clock(outlook.total_seconds)
    typer.echo(f"The whole run would take about {total} ({outlook.parameters:,} parameters, {outlook.precision}).")
