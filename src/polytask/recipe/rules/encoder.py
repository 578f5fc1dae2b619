"""What the encoder's table may say, and what a recipe may ask of an encoder."""

from __future__ import annotations

from collections.abc import Iterator

from polytask.encoder.base import Outline
from polytask.errors import RecipeError, listed
from polytask.heads.pooling.base import poolings
from polytask.recipe.facts import kind_of
from polytask.recipe.reading import Problem
from polytask.recipe.settings import EncoderSettings, Last, Recipe, TaskSettings

_NEW_ONLY = ("layers", "width", "heads", "hidden", "tokenizer", "vocabulary")

_LARGEST = {"layers": 1000, "width": 100_000, "heads": 10_000, "hidden": 1_000_000, "vocabulary": 100_000_000}

_PARAMETERS = 10_000_000_000


def encoder_rules(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the encoder's table, and with tasks that need another encoder."""
    settings = recipe.encoder
    given = [name for name in _NEW_ONLY if getattr(settings, name) is not None]
    lstm = settings.architecture == "lstm"
    if settings.checkpoint is not None and given:
        yield "encoder", f"{listed(given)} cannot be chosen with a checkpoint, which settles them."
    if settings.checkpoint is not None and lstm:
        yield "encoder", "an lstm is trained from scratch; it takes no checkpoint."
    if settings.checkpoint is None and settings.architecture == "auto":
        yield "encoder", 'architecture = "auto" needs a checkpoint.'
    if settings.checkpoint is None and settings.tokenizer is not None and settings.vocabulary is not None:
        yield "encoder.vocabulary", "does nothing beside 'tokenizer', which has a vocabulary of its own."
    if lstm and settings.heads is not None:
        yield "encoder.heads", "does nothing: an lstm has no attention heads."
    large = list(_too_large(settings))
    yield from large
    if settings.checkpoint is None and not large and not lstm:
        width, heads = settings.width or 768, settings.heads or 12
        if width % heads:
            yield "encoder.heads", f"a width of {width} cannot be divided among {heads} heads."
    for name, task in recipe.tasks.items():
        if "words" in kind_of(task).needs and settings.architecture != "bert":
            told = f"'{task.kind.name if task.kind else ''}' predicts words through the word table of our own BERT"
            has = f'architecture = "{settings.architecture}" has none that it knows. Use architecture = "bert".'
            yield f"tasks.{name}.kind", f"{told}; {has}"


def fit_rules(recipe: Recipe, outline: Outline) -> Iterator[Problem]:
    """Yield what a recipe asks of its encoder that the encoder has not."""
    for name, task in recipe.tasks.items():
        if task.max_length is not None and task.max_length > outline.positions:
            yield f"tasks.{name}.max_length", f"is {task.max_length}; the encoder takes {outline.positions} tokens."
        if "pooling" in kind_of(task).takes and task.pooling.name in poolings.names():
            yield from ((f"tasks.{name}.pooling", sentence) for sentence in _pooling(task, outline))
    for number, stage in enumerate(recipe.stages):
        if isinstance(stage.train, Last) and stage.train.last > outline.depth:
            yield f"stages.{number}.train.last", f"is {stage.train.last}, and the encoder has {outline.depth} layers."


def new_outline(settings: EncoderSettings) -> Outline:
    """Return the outline of an encoder that is drawn at random."""
    lstm = settings.architecture == "lstm"
    return Outline(settings.layers or (2 if lstm else 12), 512, True, lowest_layer=1 if lstm else 0)


def _pooling(task: TaskSettings, outline: Outline) -> Iterator[str]:
    try:
        pooling = poolings.tried(task.pooling.name, task.pooling.options)
    except RecipeError:
        return  # told where its options are
    try:
        layers = pooling.reads(outline.depth)
    except ValueError as error:
        yield f"{error}."
        return
    if pooling.uses_pooler and outline.has_pooler is False:
        yield f"'{task.pooling.name}' reads the pooler, which this checkpoint has not; use 'mean' or 'max'."
    if pooling.uses_pooler and not outline.pools_any_layer and layers != [outline.depth]:
        yield "the pooler of an encoder from transformers reads the last layer alone; leave out 'layers', or use 'first'."
    if min(layers) < outline.lowest_layer:
        yield (
            f"layers has {min(layers)}; this encoder's layers are counted from {outline.lowest_layer}: "
            "its embeddings have another width."
        )


def _too_large(settings: EncoderSettings) -> Iterator[Problem]:
    """Yield sizes of a new encoder that no machine holds, before one tries."""
    if settings.checkpoint is not None:
        return
    large = {key: most for key, most in _LARGEST.items() if (getattr(settings, key) or 0) > most}
    for key, most in large.items():
        yield f"encoder.{key}", f"is {getattr(settings, key)}; wanted a number of at most {most:,}."
    width, hidden = settings.width or 768, settings.hidden or 3072
    parameters = (settings.layers or 12) * (4 * width**2 + 2 * width * hidden)
    if not large and parameters > _PARAMETERS:
        yield "encoder", f"would have {parameters:,} parameters; wanted at most {_PARAMETERS:,}."
