"""Any encoder of ``transformers`` (RoBERTa, MPNet, ELECTRA, DeBERTa-v3, ModernBERT, …) behind the encoder contract.

Shapes: P tokens of a packed batch, D width, E width of the word embeddings (D in most models), N texts, L tokens of
the longest text.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.errors import CheckpointError, need_extra, shown
from polytask.packing import Batch, EncoderOutput
from polytask.runtime.files import disk_errors

from .base import Architecture, Encoder, Outline, encoders, stated_hint
from .foreign.configs import check_encoder, count_parameters, first_lines, settings_of
from .foreign.pooling import pooling_hint, save_pooling
from .foreign.tensors import open_tensors, read_json
from .foreign.tokenizers import save_tokenizer

LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
UNBOUNDED = 1 << 20
"""What ``positions`` is for a model that states no longest text."""


class AutoEncoder(Encoder):
    """A ``transformers`` model that takes word embeddings and returns the hidden vectors of all its layers.

    The model pads inside; its padding never leaves ``forward``. Weights stay fp32: passes in another type run under
    autocast. ``positions`` is the length of the longest text that it takes. Its pooler is part of its own forward pass,
    and so reads the last layer alone.
    """

    pools_any_layer = False

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width = int(model.config.hidden_size)
        self.has_pooler = getattr(model, "pooler", None) is not None
        self.positions = _positions(model)
        self.has_types = (getattr(model.config, "type_vocab_size", None) or 0) > 1 and _takes(model, "token_type_ids")
        layers = [int(match[1]) for name, _ in model.named_parameters() if (match := LAYER.search(name))]
        self._depth = 1 + max(layers, default=-1)

    def embed(self, batch: Batch) -> Tensor:
        """Return the rows of the model's own embedding table, ``(P, E)``."""
        words_PE: Tensor = self.model.get_input_embeddings()(batch.ids_P)
        return words_PE

    def forward(
        self, batch: Batch, embeddings: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> EncoderOutput:
        if batch.longest > self.positions:
            raise ValueError(f"a text of {batch.longest} tokens; this encoder has {self.positions} positions")
        words_PE = self.embed(batch) if embeddings is None else embeddings
        output = self._run(words_PE, batch, dtype or self.compute)
        # Some models normalise their last layer once more: what they call the last hidden state is the truth.
        blocks = (*output.hidden_states[:-1], output.last_hidden_state)
        return _Output(
            batch, [batch.stream(block_NLD) for block_NLD in blocks], output.pooler_output if self.has_pooler else None
        )

    def _run(self, words_PE: Tensor, batch: Batch, dtype: torch.dtype) -> Any:
        types = {"token_type_ids": batch.block(batch.types_P)} if self.has_types else {}
        with torch.autocast(words_PE.device.type, dtype, enabled=dtype is not torch.float32):
            return self.model(
                inputs_embeds=batch.block(words_PE),
                attention_mask=batch.mask().long(),
                output_hidden_states=True,
                return_dict=True,
                **types,
            )

    def describe(self) -> dict[str, Any]:
        config = json.loads(self.model.config.to_json_string(use_diff=False))
        vocabulary = self.model.get_input_embeddings().num_embeddings
        told = {"pooler": self.has_pooler, "pooling_hint": self.pooling_hint}
        return {"architecture": "auto", "vocabulary": vocabulary, **told, "config": config}

    @property
    def depth(self) -> int:
        return self._depth

    def pooler_parameters(self) -> list[nn.Parameter]:
        pooler = getattr(self.model, "pooler", None)
        return list(pooler.parameters()) if isinstance(pooler, nn.Module) else []

    def layer_of(self, name: str) -> int:
        within = LAYER.search(name)
        if within:
            return int(within[1]) + 1
        above = "pooler" in name or "final_norm" in name
        return self.depth + 1 if above else 0  # relative positions serve all layers: they freeze with the embeddings


class _Output(EncoderOutput):
    """An output whose pooled vectors ``(N, D)`` are known already, for the last layer alone; None where there are none."""

    def __init__(self, batch: Batch, layers: Sequence[Tensor], pooled_ND: Tensor | None) -> None:
        super().__init__(batch, layers)
        self._pooled_ND = pooled_ND

    def pooled(self, hidden_PD: Tensor | None = None) -> Tensor:
        if self._pooled_ND is None:
            raise ValueError("this encoder has no pooler")
        if hidden_PD is not None:
            raise ValueError("this encoder's pooler reads its last layer")
        return self._pooled_ND


@encoders.register("auto")
class AutoArchitecture(Architecture):
    """Any encoder of ``transformers`` (RoBERTa, MPNet, ELECTRA, DeBERTa-v3, ModernBERT, …), from a checkpoint.

    ``dropout`` replaces every rate that the checkpoint's config states.
    """

    from_scratch = False

    def __init__(
        self, *, dropout: Annotated[float, Field(ge=0, lt=1, description="Dropout everywhere.")] | None = None
    ) -> None:
        self.dropout = dropout

    def outline(self, folder: Path | None) -> Outline | None:
        return None

    def load(self, folder: Path) -> AutoEncoder:
        return load_auto(folder, dropout=self.dropout)

    @classmethod
    def rebuild(cls, description: Mapping[str, Any]) -> AutoEncoder:
        return build_auto(description)

    @classmethod
    def save(cls, encoder: Encoder, folder: Path, tokenizer_json: str | None) -> None:
        assert isinstance(encoder, AutoEncoder)
        save_auto(encoder, folder, tokenizer_json)

    def tokenizer_json(self, folder: Path) -> str | None:
        return None if (folder / "tokenizer.json").is_file() else auto_tokenizer(folder)


def load_auto(folder: Path, *, dropout: float | None = None) -> AutoEncoder:
    """Return the model in a checkpoint folder, in fp32. ``dropout`` replaces every rate that its config states.

    Code in the folder is never run. Raises CheckpointError when the model cannot be read whole, and Unavailable
    without ``transformers``.
    """
    transformers = _transformers()
    stated = read_json(folder / "config.json")
    source = str(folder / "config.json")
    if dropout is not None:
        stated |= dict.fromkeys(_dropouts(stated), dropout)
    with _quietly(transformers):
        settings = settings_of(transformers, stated, source)
        check_encoder(transformers, settings, source)
        _check_size(transformers, settings, folder)
        try:
            model, found = transformers.AutoModel.from_pretrained(
                folder,
                config=settings,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported below, by name
            )
        except Exception as error:  # transformers raises whatever the libraries below it raise
            raise CheckpointError(f"{folder} cannot be read by transformers: {first_lines(error)}") from error
    _check(found, folder)
    encoder = _wrap(model, pooler=not found["missing_keys"], source=str(folder))
    encoder.pooling_hint = pooling_hint(folder)
    return encoder


def auto_tokenizer(folder: Path) -> str:
    """Return a checkpoint's tokenizer as ``tokenizer.json`` text, converted by transformers from another form.

    Raises CheckpointError when it cannot be read, and Unavailable without ``transformers``.
    """
    transformers = _transformers()
    try:
        with _quietly(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # transformers raises whatever the libraries below it raise
        raise CheckpointError(f"The tokenizer in {folder} cannot be converted: {first_lines(error)}") from error


def build_auto(description: Mapping[str, Any]) -> AutoEncoder:
    """Return a new encoder, with new weights, from what ``AutoEncoder.describe`` gave."""
    transformers, config = _transformers(), description["config"]
    if not isinstance(config, dict):
        raise CheckpointError(f"The description of an encoder has no config, but {shown(config)}.")
    with _quietly(transformers):
        settings = settings_of(transformers, config, "The description")
        check_encoder(transformers, settings, "The description")
        model = transformers.AutoModel.from_config(settings, dtype=torch.float32, trust_remote_code=False)
    encoder = _wrap(model, pooler=bool(description["pooler"]), source="the description")
    encoder.pooling_hint = stated_hint(description)
    return encoder


def save_auto(encoder: AutoEncoder, folder: Path, tokenizer_json: str | None) -> None:
    """Write a model, and its tokenizer when given, so that ``transformers`` loads the same numbers from ``folder``."""
    with disk_errors(folder), _quietly(_transformers()):
        folder.mkdir(parents=True, exist_ok=True)
        encoder.model.save_pretrained(folder)
    save_pooling(folder, encoder.pooling_hint, encoder.width)
    if tokenizer_json is not None:
        save_tokenizer(folder, tokenizer_json, positions=encoder.positions, types=2 if encoder.has_types else 1)


def _check_size(transformers: Any, settings: Any, folder: Path) -> None:
    # Read by our own eyes first: what would run code or lead elsewhere is refused, and so is what would fill the memory.
    with open_tensors(folder) as stored:
        held = sum(math.prod(tensor.shape) for tensor in stored.values())
    wanted = count_parameters(transformers, settings, str(folder / "config.json"))
    if wanted > 2 * held:
        source = folder / "config.json"
        raise CheckpointError(f"{source} asks for {wanted:,} parameters; the checkpoint holds {held:,}.")


def _check(found: Mapping[str, Any], folder: Path) -> None:
    # transformers would draw at random what it does not find; only a pooler may be missing.
    for name, stored, wanted in sorted(found["mismatched_keys"]):
        shapes = f"{tuple(stored)}; config.json asks for {tuple(wanted)}"
        raise CheckpointError(f"{folder}: the tensor '{name}' has the shape {shapes}.")
    for name in sorted(found["missing_keys"]):
        if not name.startswith("pooler."):
            raise CheckpointError(f"The checkpoint {folder} lacks the tensor '{name}'.")


def _wrap(model: Any, *, pooler: bool, source: str) -> AutoEncoder:
    if getattr(model.config, "is_encoder_decoder", False) or not _takes(model, "inputs_embeds"):
        raise CheckpointError(f"{source} holds a {type(model).__name__}; wanted an encoder that takes word embeddings.")
    if not pooler and getattr(model, "pooler", None) is not None:
        model.pooler = None  # transformers would have drawn its weights at random
    return AutoEncoder(model)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise need_extra("transformers", "hub", "An encoder other than BERT") from error
    return transformers


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Keep transformers from writing reports, bars and warnings: what matters in them is checked here."""
    log = transformers.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()


def _dropouts(config: Mapping[str, Any]) -> list[str]:
    numbers = (int, float)
    return [
        key
        for key, value in config.items()
        if "dropout" in key and isinstance(value, numbers) and "classifier" not in key
    ]


def _takes(model: Any, argument: str) -> bool:
    return argument in inspect.signature(model.forward).parameters


def _positions(model: Any) -> int:
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and MPNet count positions from the row after the padding's.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return int(getattr(model.config, "max_position_embeddings", None) or UNBOUNDED)
