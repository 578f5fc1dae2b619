"""BERT checkpoints in Hugging Face layout, read and written. Foreign names of tensors and settings live only here.

Shapes: D width, V vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from polytask.encoder.attention import SelfAttention
from polytask.encoder.bert import ACTIVATIONS, Bert, BertShape
from polytask.errors import CheckpointError, listed, nearest
from polytask.runtime.files import disk_errors, write_text, write_with

from .tensors import Stored, open_tensors, read_json

OUTER_MODULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("embeddings.word", ("embeddings.word_embeddings",)),
    ("embeddings.position", ("embeddings.position_embeddings",)),
    ("embeddings.token_type", ("embeddings.token_type_embeddings",)),
    ("embeddings.norm", ("embeddings.LayerNorm",)),
    ("pooler", ("pooler.dense",)),
)
LAYER_MODULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("attention.qkv", ("attention.self.query", "attention.self.key", "attention.self.value")),
    ("attention.output", ("attention.output.dense",)),
    ("attention.norm", ("attention.output.LayerNorm",)),
    ("feed_forward.up", ("intermediate.dense",)),
    ("feed_forward.down", ("output.dense",)),
    ("feed_forward.norm", ("output.LayerNorm",)),
)
"""Our module -> theirs, whose rows are stacked in ours. Read from left to right to save, from right to left to load."""

LANGUAGE_PREFIX = "cls.predictions."
LANGUAGE_HEAD = {
    "dense.weight": "transform.dense.weight",
    "dense.bias": "transform.dense.bias",
    "norm.weight": "transform.LayerNorm.weight",
    "norm.bias": "transform.LayerNorm.bias",
    "bias": "bias",
}
WORD_TABLE = "embeddings.word_embeddings.weight"
"""The head of a masked language model: our names -> theirs below the prefix, and the table that it is tied to."""

SIZES = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "positions": "max_position_embeddings",
    "types": "type_vocab_size",
}
OPTIONAL_SIZES = ("positions", "types")  # old configs leave these out; the tensors' shapes are checked in any case
EPSILON, ACTIVATION = "layer_norm_eps", "hidden_act"
DROPOUT, ATTENTION_DROPOUT = "hidden_dropout_prob", "attention_probs_dropout_prob"
PREFIX = "bert."
OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}
SPECIAL_TOKENS = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def load_bert(folder: Path, *, dropout: float | None = None) -> Bert:
    """Return the BERT in a checkpoint folder, in fp32 and copied out of its files.

    ``dropout`` replaces both rates that the checkpoint's config states.
    Raises CheckpointError that names file and tensor.
    """
    config = read_json(folder / "config.json")
    shape = _shape(config, folder / "config.json")
    rates = [_rate(config, key, folder) if dropout is None else dropout for key in (DROPOUT, ATTENTION_DROPOUT)]
    with open_tensors(folder) as found:
        stored = _by_plain_name(found)
        _check_layers(shape.layers, stored, folder)
        pooler = any(_module(name) == "pooler.dense" for name in stored)
        try:
            with torch.device("meta"):  # neither time nor random numbers for weights that are about to be replaced
                encoder = Bert(shape, dropout=rates[0], attention_dropout=rates[1], pooler=pooler)
        except ValueError as error:
            raise CheckpointError(f"{folder / 'config.json'}: {error}.") from error
        except (RuntimeError, TypeError) as error:  # what torch says of numbers that it cannot count to
            raise CheckpointError(f"{folder / 'config.json'} asks for more than any memory holds.") from error
        _check(by_foreign_name(encoder), stored, folder)
        encoder.to_empty(device="cpu")
        _fill(by_foreign_name(encoder), stored)
    return encoder


def load_language_head(folder: Path) -> dict[str, Tensor] | None:
    """Return a checkpoint's masked-language-model head, fp32, by our names; None when it has none.

    Raises CheckpointError for one that lacks a tensor, or whose output layer is not the word table.
    """
    with open_tensors(folder) as found:
        stored = _by_plain_name(found)
        if not any(name.startswith(LANGUAGE_PREFIX) for name in stored):
            return None
        wanted = {ours: f"{LANGUAGE_PREFIX}{theirs}" for ours, theirs in LANGUAGE_HEAD.items()}
        missing = [theirs for theirs in wanted.values() if theirs not in stored]
        if missing:
            raise CheckpointError(f"The masked-language-model head of {folder} lacks the tensor '{missing[0]}'.")
        untied = stored.get(f"{LANGUAGE_PREFIX}decoder.weight")
        if untied is not None and not torch.equal(untied.read(), stored[WORD_TABLE].read()):
            raise CheckpointError(
                f"{untied.file}: the output layer of the language model is not tied to the word table."
            )
        return {ours: stored[theirs].read().float().clone() for ours, theirs in wanted.items()}


def save_bert(encoder: Bert, folder: Path, tokenizer_json: str | None) -> None:
    """Write an encoder, and its tokenizer when given, such that ``transformers`` loads the same numbers from there."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: part.to("cpu", torch.float32).contiguous() for name, part in by_foreign_name(encoder).items()}
    write_with(folder / "model.safetensors", lambda file: save_file(tensors, file, metadata={"format": "pt"}))
    write_json(folder / "config.json", _config(encoder))
    if tokenizer_json is not None:
        save_tokenizer(folder, tokenizer_json, positions=encoder.shape.positions, types=encoder.shape.types)


def shape_of(folder: Path) -> BertShape:
    """Return the sizes that a checkpoint folder's config states. Raises CheckpointError for one that is no BERT's."""
    return _shape(read_json(folder / "config.json"), folder / "config.json")


def by_foreign_name(encoder: Bert) -> dict[str, Tensor]:
    """Return every parameter under its Hugging Face name; query, key and value as views of one matrix."""
    table = {f"{ours}.": theirs for ours, theirs in OUTER_MODULES}
    for i in range(encoder.shape.layers):
        for ours, theirs in LAYER_MODULES:
            table[f"layers.{i}.{ours}."] = tuple(f"encoder.layer.{i}.{name}" for name in theirs)
    views: dict[str, Tensor] = {}
    for name, parameter in encoder.named_parameters():
        module, kind = name[: name.rindex(".") + 1], name[name.rindex(".") :]
        parts = parameter.detach().chunk(len(table[module]))
        views |= {their + kind: part for their, part in zip(table[module], parts, strict=True)}
    return views


def save_tokenizer(folder: Path, tokenizer_json: str, *, positions: int, types: int) -> None:
    """Write a tokenizer so that ``transformers.AutoTokenizer`` reads ``tokenizer.json`` as it stands."""
    vocabulary = {token["content"] for token in json.loads(tokenizer_json).get("added_tokens", ())}
    special = {role: [name for name in names if name in vocabulary] for role, names in SPECIAL_TOKENS.items()}
    inputs = ["input_ids", *(["token_type_ids"] if types > 1 else []), "attention_mask"]
    settings = {
        # The general class: BertTokenizer would build its own normaliser and ignore the one in tokenizer.json.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "model_input_names": inputs,
        **{role: names[0] for role, names in special.items() if names},
    }
    write_text(folder / "tokenizer.json", tokenizer_json)
    write_json(folder / "tokenizer_config.json", settings)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object for people to read."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _plain(name: str) -> str:
    """Return a stored tensor's name without prefix and in today's spelling."""
    name = name.removeprefix(PREFIX)
    for old, new in OLD_ENDINGS.items():
        if name.endswith("LayerNorm" + old):
            return name.removesuffix(old) + new
    return name


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _by_plain_name(found: Mapping[str, Stored]) -> dict[str, Stored]:
    stored: dict[str, Stored] = {}
    for name, tensor in found.items():
        if _plain(name) in stored:
            raise CheckpointError(f"{tensor.file} has the tensor '{_plain(name)}' twice, under an old and a new name.")
        stored[_plain(name)] = tensor
    return stored


def _check_layers(layers: int, stored: Mapping[str, Stored], folder: Path) -> None:
    # Before a layer is made: what a config states may be beyond counting.
    last = f"encoder.layer.{layers - 1}."
    if not any(name.startswith(last) for name in stored):
        held = len({match[1] for name in stored if (match := re.match(r"encoder\.layer\.(\d+)\.", name))})
        where = f"{folder / 'config.json'} asks for {layers} layers"
        raise CheckpointError(f"{where}, and the checkpoint lacks the tensor '{last}…': it holds {held}.")


def _check(wanted: Mapping[str, Tensor], stored: Mapping[str, Stored], folder: Path) -> None:
    # Before any memory is taken: shapes are in the files' headers.
    missing = [name for name in wanted if name not in stored]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        near = nearest(missing[0], stored)
        raise CheckpointError(f"The checkpoint {folder} lacks the tensor '{missing[0]}'{more}.{near}")
    for name, parameter in wanted.items():
        if stored[name].shape != tuple(parameter.shape):
            raise CheckpointError(
                f"{stored[name].file}: the tensor '{name}' has the shape {stored[name].shape};"
                f" config.json asks for {tuple(parameter.shape)}."
            )


def _fill(wanted: Mapping[str, Tensor], stored: Mapping[str, Stored]) -> None:
    for name, parameter in wanted.items():
        tensor = stored[name].read()
        if not tensor.is_floating_point():
            raise CheckpointError(f"{stored[name].file}: the tensor '{name}' holds {tensor.dtype}, wanted floats.")
        if not tensor.to(torch.float32).isfinite().all():
            raise CheckpointError(f"{stored[name].file}: the tensor '{name}' holds numbers that are not finite.")
        parameter.copy_(tensor)


def _shape(config: Mapping[str, Any], file: Path) -> BertShape:
    _check_architecture(config, file)
    stated = {ours: theirs for ours, theirs in SIZES.items() if theirs in config or ours not in OPTIONAL_SIZES}
    sizes = {ours: _size(config, theirs, file) for ours, theirs in stated.items()}
    activation = config.get(ACTIVATION, BertShape.activation)
    if activation not in ACTIVATIONS:
        raise CheckpointError(f"{file}: '{ACTIVATION}' is {activation!r}; this encoder has {listed(ACTIVATIONS)}.")
    epsilon = config.get(EPSILON, BertShape.epsilon)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 <= epsilon < 1:
        raise CheckpointError(f"{file}: '{EPSILON}' is {epsilon!r}, not a small number.")
    return BertShape(**sizes, epsilon=float(epsilon), activation=activation)


def _check_architecture(config: Mapping[str, Any], file: Path) -> None:
    kind = config.get("model_type")
    # The first BERT checkpoints had no model_type. RoBERTa has the same tensor names but other positions: no guessing.
    if kind is None and not str((config.get("architectures") or [""])[0]).startswith("Bert"):
        raise CheckpointError(f"{file} lacks the key 'model_type'.")
    if kind not in (None, "bert"):
        raise CheckpointError(
            f"{file}: 'model_type' is {kind!r}; this reads 'bert' (others with architecture = \"auto\")."
        )
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise CheckpointError(f"{file}: 'position_embedding_type' is {positions!r}; wanted 'absolute'.")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise CheckpointError(f"{file} describes a decoder; wanted an encoder.")


def _size(config: Mapping[str, Any], key: str, file: Path) -> int:
    if key not in config:
        raise CheckpointError(f"{file} lacks the key '{key}'.{nearest(key, config)}")
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{file}: '{key}' is {value!r}, not a positive whole number.")
    return value


def _rate(config: Mapping[str, Any], key: str, folder: Path) -> float:
    value = config.get(key, 0.1)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise CheckpointError(f"{folder / 'config.json'}: '{key}' is {value!r}, not a share from 0 to 1.")
    return float(value)


def _config(encoder: Bert) -> dict[str, Any]:
    shape = encoder.shape
    attention = [module.attention_dropout for module in encoder.modules() if isinstance(module, SelfAttention)]
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        **{theirs: getattr(shape, ours) for ours, theirs in SIZES.items()},
        EPSILON: shape.epsilon,
        ACTIVATION: shape.activation,
        DROPOUT: encoder.embeddings.dropout,
        ATTENTION_DROPOUT: attention[0],
        "position_embedding_type": "absolute",
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "dtype": "float32",
    }
