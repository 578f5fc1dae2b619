"""How a checkpoint says its vectors are pooled: read as sentence-transformers writes it, written as it reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.data.tokens import Tokenizer
from polytask.encoder.bert import Bert, BertShape, load_bert, save_bert
from polytask.encoder.foreign.pooling import FILE, pooling_hint
from polytask.errors import CheckpointError
from polytask.heads.pooling.base import poolings
from polytask.packing import PackedBatch


def stated(folder: Path, content: Any) -> Path:
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("theirs", "ours"), [("mean", "mean"), ("cls", "first"), ("max", "max")])
def test_what_sentence_transformers_writes_is_read(tmp_path: Path, theirs: Any, ours: str) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder = tmp_path / FILE.partition("/")[0]
    folder.mkdir()
    Pooling(8, theirs).save(str(folder))
    assert pooling_hint(tmp_path) == ours


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "word_embedding_dimension": 384}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "mean+max"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean_tokens"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode": ["cls", "mean"]}, "cls+mean"),
    ],
)
def test_old_and_new_spellings(tmp_path: Path, content: dict[str, Any], hint: str) -> None:
    assert pooling_hint(stated(tmp_path, content)) == hint


def test_a_folder_that_does_not_tell(tmp_path: Path) -> None:
    assert pooling_hint(tmp_path) is None


@pytest.mark.parametrize("content", [{}, {"pooling_mode": 3}, {"pooling_mode": []}, {"pooling_mode_mean_tokens": 1}])
def test_a_file_that_names_none(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"1_Pooling.config\.json names no pooling"):
        pooling_hint(stated(tmp_path, content))


def test_an_encoder_keeps_its_hint_and_sentence_transformers_pools_by_it(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(0)
    encoder = Bert(BertShape(vocabulary=60, width=16, layers=2, heads=2, feed_forward=24, positions=32)).eval()
    encoder.pooling_hint = "mean"
    tokenizer = Tokenizer.from_texts(["good film", "bad film"], 60)
    save_bert(encoder, tmp_path / "saved", tokenizer.json)
    again = load_bert(tmp_path / "saved").eval()
    assert again.pooling_hint == "mean"

    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    ids, types = tokenizer.join(tokenizer.encode(["good film"]), 32)
    with torch.no_grad():
        ours_ND = poolings.create("mean", 16)(again(PackedBatch.pack([ids], [types])))
    torch.testing.assert_close(torch.tensor(theirs.encode(["good film"])), ours_ND, atol=1e-5, rtol=1e-5)
