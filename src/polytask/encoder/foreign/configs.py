"""What a config of ``transformers`` may decide, and what it may not: a config is data, whoever wrote it.

Some of its keys make ``transformers`` import code, fetch kernels or open files elsewhere. They are left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from polytask.errors import CheckpointError, nearest, shown

FOREIGN = frozenset(
    [
        *("auto_map", "custom_pipelines", "trust_remote_code", "transformers_weights", "quantization_config"),
        *("attn_implementation", "experts_implementation", "use_kernels", "kernel_config", "name_or_path"),
    ]
)
MOST_LAYERS = 1000


def settings_of(transformers: Any, stated: Mapping[str, Any], source: str) -> Any:
    """Return the config object that a config states. Raises CheckpointError when it is not that of one text encoder."""
    kept = {key: value for key, value in stated.items() if key not in FOREIGN and not key.startswith("_")}
    kind = kept.pop("model_type", None)
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        near = nearest(kind, transformers.CONFIG_MAPPING) if isinstance(kind, str) else ""
        raise CheckpointError(
            f"{source} cannot be read by transformers: its 'model_type' {shown(kind)} is unknown, and code that comes"
            f" with a checkpoint is never run.{near}"
        )
    for key, value in kept.items():
        if isinstance(value, dict) and ("model_type" in value or "auto_map" in value):
            raise CheckpointError(f"{source}: '{key}' is a model of its own; wanted one encoder of text.")
        if "layers" in key and isinstance(value, int) and value > MOST_LAYERS:
            raise CheckpointError(f"{source}: '{key}' is {value}; wanted at most {MOST_LAYERS}.")
    try:
        return transformers.AutoConfig.for_model(kind, **kept)
    except Exception as error:  # each kind of config checks itself in its own way
        reason = first_lines(error)
        raise CheckpointError(f"{source} cannot be read by transformers: {reason}") from error


def first_lines(error: Exception) -> str:
    """Return the beginning of what a library says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def check_encoder(transformers: Any, settings: Any, source: str) -> None:
    """Raise CheckpointError unless a config's model reads texts both ways and takes word embeddings."""
    kind = type(settings)
    made: Any = transformers.MODEL_MAPPING.get(kind, None)
    one_way = kind in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and kind not in transformers.MODEL_FOR_MASKED_LM_MAPPING
    takes = hasattr(made, "forward") and "inputs_embeds" in inspect.signature(made.forward).parameters
    if one_way or not takes or getattr(settings, "is_encoder_decoder", False):
        name = getattr(made, "__name__", settings.model_type)
        reads = ", which reads from left to right only" if one_way else ""
        raise CheckpointError(f"{source} holds a {name}{reads}; wanted an encoder that takes word embeddings.")


def count_parameters(transformers: Any, settings: Any, source: str) -> int:
    """Return how many numbers a config's model has, without taking memory for them."""
    try:
        with torch.device("meta"):
            model = transformers.AutoModel.from_config(settings, trust_remote_code=False)
    except Exception as error:  # whatever a model says of sizes that do not fit each other, or any memory
        reason = first_lines(error)
        raise CheckpointError(f"{source}: no model can be made of this config: {reason}") from error
    return sum(parameter.numel() for parameter in model.parameters())
