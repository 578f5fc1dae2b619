"""What the encoder's table may say, and what a recipe may ask of an encoder."""

from __future__ import annotations

from collections.abc import Iterator

from polytask.encoder.base import Outline, encoders
from polytask.errors import RecipeError, listed, nearest
from polytask.heads.pooling.base import poolings
from polytask.recipe.facts import kind_of
from polytask.recipe.reading import Problem
from polytask.recipe.settings import EncoderSettings, Last, Member, Recipe


def encoder_rules(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the encoder's table, and with tasks that need another encoder."""
    settings, name = recipe.encoder, recipe.encoder.architecture
    if name not in encoders.names():
        return  # told where it belongs
    architecture, known = encoders.member(name), encoders.options(name)
    for key in settings.options:
        # Two slips look alike here: another architecture's option, which does nothing, and a key that nobody has.
        if key not in known:
            others = {option for other in encoders.names() for option in encoders.options(other)}
            if key in others:
                yield f"encoder.{key}", f"does nothing: {_article(name)} has none. It takes {listed(known)}."
            else:
                near = nearest(key, [*known, *EncoderSettings.model_fields])
                yield f"encoder.{key}", f"there is no such key.{near}"
    # A checkpoint brings its sizes, its vocabulary and its tokenizer: chosen ones would not fit its word table.
    new = {key for key in ("tokenizer", "vocabulary") if getattr(settings, key) is not None}
    given = [
        key
        for key in (*known, "tokenizer", "vocabulary")
        if key in new or key in architecture.of_new & {*settings.options}
    ]
    if settings.checkpoint is not None and not architecture.from_checkpoint:
        yield "encoder", f"{_article(name)} is trained from scratch; it takes no checkpoint."
    elif settings.checkpoint is not None and given:
        yield "encoder", f"{listed(given)} cannot be chosen with a checkpoint, which settles them."
    if settings.checkpoint is None and not architecture.from_scratch:
        yield "encoder", f'architecture = "{name}" needs a checkpoint.'
    if settings.checkpoint is None and len(new) == 2:
        yield "encoder.vocabulary", "does nothing beside 'tokenizer', which has a vocabulary of its own."
    for task, its in recipe.tasks.items():
        if not kind_of(its).needs <= architecture.offers:
            sentence = f"'{its.kind.name if its.kind else ''}' predicts words through the word table of our own BERT"
            has = f'architecture = "{name}" has none that it knows. Use architecture = "bert".'
            yield f"tasks.{task}.kind", f"{sentence}; {has}"


def _article(name: str) -> str:
    return f"an {name}" if name[:1] in "aeioul" else f"a {name}"


def fit_rules(recipe: Recipe, outline: Outline) -> Iterator[Problem]:
    """Yield what a recipe asks of its encoder that the encoder has not."""
    for name, task in recipe.tasks.items():
        if task.max_length is not None and task.max_length > outline.positions:
            yield f"tasks.{name}.max_length", f"is {task.max_length}; the encoder takes {outline.positions} tokens."
        chosen = task.pooling if "pooling" in kind_of(task).takes else None  # not chosen: what the encoder has
        if chosen is not None and chosen.name in poolings.names():
            yield from ((f"tasks.{name}.pooling", sentence) for sentence in _pooling(chosen, outline))
    for number, stage in enumerate(recipe.stages):
        if isinstance(stage.train, Last) and stage.train.last > outline.depth:
            yield f"stages.{number}.train.last", f"is {stage.train.last}, and the encoder has {outline.depth} layers."


def _pooling(chosen: Member, outline: Outline) -> Iterator[str]:
    try:
        pooling = poolings.tried(chosen.name, chosen.options)
    except RecipeError:
        return  # told where its options are
    try:
        layers = pooling.reads(outline.depth)
    except ValueError as error:
        yield f"{error}."
        return
    # None: the outline was read without the weights, and only they tell; asked again of the encoder itself.
    if pooling.uses_pooler and outline.has_pooler is False:
        yield f"'{chosen.name}' reads the pooler, which this checkpoint has not; use 'mean' or 'max'."
    if pooling.uses_pooler and not outline.pools_any_layer and layers != [outline.depth]:
        yield "the pooler of an encoder from transformers reads the last layer alone; leave out 'layers', or use 'first'."
    if min(layers) < outline.lowest_layer:
        yield (
            f"layers has {min(layers)}; this encoder's layers are counted from {outline.lowest_layer}: "
            "its embeddings have another width."
        )
