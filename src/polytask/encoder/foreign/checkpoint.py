"""Reads a checkpoint folder of BERT's kind by the naming that its config calls for, and writes one in BERT's own.

A naming is tables; what is done with them stands here. Whoever made the folder, no memory is taken for what it says
before the shapes in its files were compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from polytask.errors import CheckpointError, listed, nearest
from polytask.runtime.files import write_with

from .namings.base import Naming, namings
from .tensors import Stored, open_tensors, read_json
from .tokenizers import write_json

_LAYER = re.compile(r"(?:.*\.)?layers\.(\d+)\.")


@dataclass(frozen=True)
class Stated:
    """What the config of a checkpoint ``folder`` states, read by the ``naming`` of its family."""

    folder: Path
    naming: Naming
    config: Mapping[str, Any]

    @property
    def file(self) -> Path:
        return self.folder / "config.json"

    def sizes(self) -> dict[str, int]:
        """Return the sizes by our names. Raises CheckpointError for one that is missing or no size."""
        keys = self.naming.sizes.items()
        sizes = {
            ours: self._size(theirs)
            for ours, theirs in keys
            if theirs in self.config or ours not in self.naming.optional
        }
        if "positions" in sizes:
            sizes["positions"] -= self.naming.unused_positions
        return {**self.naming.fixed, **sizes}

    def _size(self, key: str) -> int:
        if key not in self.config:
            raise CheckpointError(f"{self.file} lacks the key '{key}'.{nearest(key, self.config)}")
        value = self.config[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{self.file}: '{key}' is {value!r}, not a positive whole number.")
        return value

    def epsilon(self, default: float) -> float:
        """Return what is added to the variance in a LayerNorm."""
        value = self.config.get(self.naming.epsilon, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise CheckpointError(f"{self.file}: '{self.naming.epsilon}' is {value!r}, not a small number.")
        return float(value)

    def rate(self, key: str) -> float:
        """Return a rate of dropout that stands under ``key``."""
        value = self.config.get(key, 0.1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise CheckpointError(f"{self.file}: '{key}' is {value!r}, not a share from 0 to 1.")
        return float(value)


def read_stated(folder: Path) -> Stated:
    """Return what a checkpoint folder's config states. Raises CheckpointError where no naming is of its family."""
    config, file = read_json(folder / "config.json"), folder / "config.json"
    known = [namings.create(name) for name in namings.names()]
    naming = next((naming for naming in known if naming.recognises(config)), None)
    if naming is None and config.get("model_type") is None:
        raise CheckpointError(f"{file} lacks the key 'model_type'.")
    if naming is None:
        read = listed(sorted(naming.model_type for naming in known))
        raise CheckpointError(
            f"{file}: 'model_type' is {config['model_type']!r}; this reads {read} (others with architecture = \"auto\")."
        )
    if objection := naming.objection(config):
        raise CheckpointError(f"{file}{objection}.")
    return Stated(folder, naming, config)


class Weights:
    """The tensors of a checkpoint, by today's names of its family."""

    def __init__(self, stated: Stated, stored: Mapping[str, Stored]) -> None:
        self._folder = stated.folder
        self._naming = stated.naming
        self._stored = stored

    def has(self, module: str) -> bool:
        """Say whether there is anything of one of our modules."""
        theirs = self._naming.modules.get(module, ())
        return any(name.rpartition(".")[0] in theirs for name in self._stored)

    def check_layers(self, layers: int) -> None:
        """Raise CheckpointError where the last layer is missing: before one is made, what is asked for may be beyond count."""
        before, after = self._naming.modules["layers.{}.attention.output"][0].split("{}")
        last = f"{before}{layers - 1}{after[:1]}"
        if not any(name.startswith(last) for name in self._stored):
            numbered = re.compile(re.escape(before) + r"(\d+)\.")
            held = len({match[1] for name in self._stored if (match := numbered.match(name))})
            where = f"{self._folder / 'config.json'} asks for {layers} layers"
            raise CheckpointError(f"{where}, and the checkpoint lacks the tensor '{last}…': it holds {held}.")

    def check(self, parameters: Mapping[str, Tensor]) -> None:
        """Raise CheckpointError that names a tensor which is missing or of another shape: shapes are in the files' headers."""
        wanted = by_foreign_name(self._naming, parameters)
        missing = [name for name in wanted if name not in self._stored]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            near = nearest(missing[0], self._stored)
            raise CheckpointError(f"The checkpoint {self._folder} lacks the tensor '{missing[0]}'{more}.{near}")
        for name, parameter in wanted.items():
            stored, (rows, *rest) = self._stored[name], parameter.shape
            shape = (rows + self._unused(name), *rest)
            if stored.shape != shape:
                raise CheckpointError(
                    f"{stored.file}: the tensor '{name}' has the shape {stored.shape}; config.json asks for {shape}."
                )

    def fill(self, parameters: Mapping[str, Tensor]) -> None:
        """Copy the tensors into an encoder's parameters, which they fit. Raises CheckpointError for what are no numbers."""
        wanted = by_foreign_name(self._naming, parameters)
        for name, parameter in wanted.items():
            stored = self._stored[name]
            tensor = stored.read()
            if not tensor.is_floating_point():
                raise CheckpointError(f"{stored.file}: the tensor '{name}' holds {tensor.dtype}, wanted floats.")
            if not tensor.to(torch.float32).isfinite().all():
                raise CheckpointError(f"{stored.file}: the tensor '{name}' holds numbers that are not finite.")
            parameter.copy_(tensor[self._unused(name) :])
        for name, parameter in parameters.items():
            if not _theirs(self._naming, name):
                parameter.detach().zero_()

    def language_head(self) -> dict[str, Tensor] | None:
        """Return the head of a masked language model, fp32, by our names; None where there is none.

        Raises CheckpointError for one that lacks a tensor, or whose output layer is not the word table.
        """
        prefix, stored = self._naming.language_prefix, self._stored
        if not prefix or not any(name.startswith(prefix) for name in stored):
            return None
        wanted = {ours: f"{prefix}{theirs}" for ours, theirs in self._naming.language_head.items()}
        missing = [theirs for theirs in wanted.values() if theirs not in stored]
        if missing:
            raise CheckpointError(f"The masked-language-model head of {self._folder} lacks the tensor '{missing[0]}'.")
        untied = stored.get(f"{prefix}decoder.weight")
        if untied is not None and not torch.equal(untied.read(), stored[self._naming.word_table].read()):
            raise CheckpointError(
                f"{untied.file}: the output layer of the language model is not tied to the word table."
            )
        return {ours: stored[theirs].read().float().clone() for ours, theirs in wanted.items()}

    def _unused(self, name: str) -> int:
        of_positions = name.rpartition(".")[0] in self._naming.modules["embeddings.position"]
        return self._naming.unused_positions if of_positions else 0


@contextmanager
def open_weights(stated: Stated) -> Iterator[Weights]:
    """Yield a checkpoint's tensors for as long as its files are open. Raises CheckpointError for one of two names."""
    with open_tensors(stated.folder) as found:
        stored: dict[str, Stored] = {}
        for name, tensor in found.items():
            plain = stated.naming.plain(name)
            if plain in stored:
                raise CheckpointError(f"{tensor.file} has the tensor '{plain}' twice, under an old and a new name.")
            stored[plain] = tensor
        yield Weights(stated, stored)


def load_language_head(folder: Path) -> dict[str, Tensor] | None:
    """Return a checkpoint's masked-language-model head, fp32, by our names; None when it has none.

    Raises CheckpointError for one that lacks a tensor, or whose output layer is not the word table.
    """
    with open_weights(read_stated(folder)) as weights:
        return weights.language_head()


def by_foreign_name(naming: Naming, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every parameter under its foreign name; query, key and value as views of one matrix."""
    views: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        if theirs := _theirs(naming, name):
            views |= zip(theirs, parameter.detach().chunk(len(theirs)), strict=True)
    return views


def _theirs(naming: Naming, name: str) -> list[str]:
    """Return the names of the tensors that are stacked in a parameter of ours; none where the family has none."""
    module, _, kind = name.rpartition(".")
    within = _LAYER.match(name)
    number = within[1] if within else ""
    ours = module.replace(f"layers.{number}.", "layers.{}.", 1) if within else module
    return [f"{their.replace('{}', number)}.{kind}" for their in naming.modules.get(ours, ())]


def save_named(folder: Path, parameters: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write an encoder, as ``describe`` describes it, in BERT's own names: ``transformers`` loads the same numbers."""
    naming = namings.create("bert")
    named = by_foreign_name(naming, parameters)
    tensors = {name: part.to("cpu", torch.float32).contiguous() for name, part in named.items()}
    write_with(folder / "model.safetensors", lambda file: save_file(tensors, file, metadata={"format": "pt"}))
    keys = {**naming.sizes, **{ours: getattr(naming, ours) for ours in _FURTHER}}
    stated = {theirs: description[ours] for ours, theirs in keys.items()}
    write_json(folder / "config.json", {"model_type": naming.model_type, **stated, **naming.also})


_FURTHER = ("epsilon", "activation", "dropout", "attention_dropout")
"""Keys of a config that a naming has attributes for, called as an encoder's description calls them."""
