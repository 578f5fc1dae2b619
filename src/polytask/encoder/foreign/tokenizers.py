"""A tokenizer, written as ``transformers`` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polytask.runtime.files import write_text

SPECIAL_TOKENS = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}


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


def write_json(file: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON object for people to read."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
