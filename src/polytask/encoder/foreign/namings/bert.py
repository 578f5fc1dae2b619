"""BERT's own names (Hugging Face layout), and those of its older checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import Naming, namings

_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}


@namings.register("bert")
class BertNames(Naming):
    """BERT, as its own checkpoints and those of ``transformers`` spell it. Encoders are saved in these names."""

    model_type = "bert"
    prefix = "bert."
    modules: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "embeddings.word": ("embeddings.word_embeddings",),
        "embeddings.position": ("embeddings.position_embeddings",),
        "embeddings.token_type": ("embeddings.token_type_embeddings",),
        "embeddings.norm": ("embeddings.LayerNorm",),
        "pooler": ("pooler.dense",),
        "layers.{}.attention.qkv": (
            "encoder.layer.{}.attention.self.query",
            "encoder.layer.{}.attention.self.key",
            "encoder.layer.{}.attention.self.value",
        ),
        "layers.{}.attention.output": ("encoder.layer.{}.attention.output.dense",),
        "layers.{}.attention.norm": ("encoder.layer.{}.attention.output.LayerNorm",),
        "layers.{}.feed_forward.up": ("encoder.layer.{}.intermediate.dense",),
        "layers.{}.feed_forward.down": ("encoder.layer.{}.output.dense",),
        "layers.{}.feed_forward.norm": ("encoder.layer.{}.output.LayerNorm",),
    }
    sizes: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "width": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "feed_forward": "intermediate_size",
        "positions": "max_position_embeddings",
        "types": "type_vocab_size",
    }
    optional = ("positions", "types")  # old configs leave these out; the tensors' shapes are checked in any case
    language_prefix = "cls.predictions."
    language_head: ClassVar[Mapping[str, str]] = {
        "dense.weight": "transform.dense.weight",
        "dense.bias": "transform.dense.bias",
        "norm.weight": "transform.LayerNorm.weight",
        "norm.bias": "transform.LayerNorm.bias",
        "bias": "bias",
    }
    word_table = "embeddings.word_embeddings.weight"
    also: ClassVar[Mapping[str, Any]] = {
        "architectures": ["BertModel"],
        "position_embedding_type": "absolute",
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "dtype": "float32",
    }

    def recognises(self, config: Mapping[str, Any]) -> bool:
        # The first BERT checkpoints had no model_type. RoBERTa has the same tensor names but other positions: no guessing.
        first = str((config.get("architectures") or [""])[0])
        return super().recognises(config) or (config.get("model_type") is None and first.startswith("Bert"))

    def objection(self, config: Mapping[str, Any]) -> str:
        positions = config.get("position_embedding_type", "absolute")
        if positions != "absolute":
            return f": 'position_embedding_type' is {positions!r}; wanted 'absolute'"
        if config.get("is_decoder") or config.get("add_cross_attention"):
            return " describes a decoder; wanted an encoder"
        return ""

    def plain(self, name: str) -> str:
        name = super().plain(name)
        for old, new in _OLD_ENDINGS.items():
            if name.endswith("LayerNorm" + old):
                return name.removesuffix(old) + new
        return name
