"""How the vectors of a checkpoint's tokens are meant to be pooled, as sentence-transformers notes it beside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.errors import CheckpointError, shown

from .tensors import read_json
from .tokenizers import write_json

FILE = "1_Pooling/config.json"
_OURS = {"mean": "mean", "cls": "first", "max": "max"}
"""Their word -> our pooling. Their "cls" is the first token's own vector; ours of that name goes through BERT's pooler."""
_FLAG = "pooling_mode_"
_SPELT = {f"{_FLAG}mean_tokens": "mean", f"{_FLAG}cls_token": "cls", f"{_FLAG}max_tokens": "max"}


def pooling_hint(folder: Path) -> str | None:
    """Return the pooling that a checkpoint was trained with, or None where its folder does not tell.

    One that polytask has is given by our name, any other by theirs ("weightedmean_tokens", or several with a "+").
    Raises CheckpointError for a file that cannot be understood.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    stated = read_json(file)
    if "pooling_mode" in stated:  # since sentence-transformers 5; before, a flag for each mode
        mode = stated["pooling_mode"]
        modes = mode if isinstance(mode, list) else [mode]
    else:
        modes = [_SPELT.get(key, key.removeprefix(_FLAG)) for key, on in stated.items() if _on(key, on)]
    if not modes or not all(isinstance(mode, str) and 0 < len(mode) <= 100 for mode in modes):
        raise CheckpointError(f"{file} names no pooling: 'pooling_mode' is {shown(stated.get('pooling_mode'))}.")
    return _OURS.get(modes[0], modes[0]) if len(modes) == 1 else "+".join(modes)


def _on(key: str, value: Any) -> bool:
    return key.startswith(_FLAG) and value is True


def save_pooling(folder: Path, pooling: str | None, width: int) -> None:
    """Write down how an encoder's vectors are meant to be pooled, where that is known and sentence-transformers can."""
    theirs = next((theirs for theirs, ours in _OURS.items() if ours == pooling), None)
    if theirs is None:
        return
    (folder / FILE).parent.mkdir(exist_ok=True)
    flags = {key: word == theirs for key, word in _SPELT.items()}
    write_json(folder / FILE, {"word_embedding_dimension": width, **flags})
    parts = [("", "Transformer"), (FILE.partition("/")[0], "Pooling")]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(parts)
    ]
    write_json(folder / "modules.json", modules)
