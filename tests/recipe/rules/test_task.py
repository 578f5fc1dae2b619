"""Parts that do not fit together are refused with the way out; parts that do are built, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from polytask.assembly.parts import Parts, build
from polytask.encoder.bert import Bert
from polytask.errors import RecipeError
from polytask.evaluation.predictions import read_predictions
from polytask.heads.projection import Projection
from polytask.heads.thresholds import Thresholds
from polytask.inference.predictor import load
from polytask.jobs.train import train
from polytask.recipe.load import load_recipe

Tiny = Callable[..., dict[str, Any]]


def built(recipe: Mapping[str, Any], overrides: tuple[str, ...] = ()) -> Parts:
    return build(load_recipe(recipe, overrides))


def refused(recipe: Mapping[str, Any]) -> str:
    with pytest.raises(RecipeError) as raised:
        load_recipe(recipe)
    return str(raised.value)


SCORE = {"name": "regression", "range": [0.0, 5.0]}
BI = {"name": "bi", "features": ["cosine"]}


@pytest.mark.parametrize(
    ("task", "change", "told"),
    [
        ("sentiment", {"head": "cosine"}, "'cosine' gives a cosine, and the task's kind as set here takes logits"),
        ("paraphrase", {"head": "cosine", "pair": BI}, "use 'linear' and 'mlp'."),
        ("similarity", {"head": "cosine", "pair": BI}, "or one of the outputs 'cosine', 'shifted_cosine'"),
        ("similarity", {"kind": SCORE | {"output": "cosine"}}, "'linear' gives logits, and"),
        ("similarity", {"kind": SCORE | {"output": "relu_cosine"}}, "use 'cosine', or one of the outputs 'standard'"),
        (
            "similarity",
            {"kind": SCORE | {"output": "cosine"}, "head": "cosine", "pair": {"name": "bi", "features": ["u"]}},
            'here it would read \'u\'. Use pair = { name = "bi", features = ["cosine"] }.',
        ),
        (
            "similarity",
            {"kind": SCORE | {"output": "cosine"}, "head": "cosine", "pair": "bi"},
            "here it would read 'u', 'v' and 'abs_difference'",
        ),
        (
            "similarity",
            {"kind": SCORE | {"output": "cosine"}, "head": "cosine", "pair": "cross"},
            "here it would read one vector for both texts",
        ),
        ("sentiment", {"pooling": {"name": "mean", "layers": []}}, "tasks.sentiment.pooling: 'mean' of the poolings"),
        ("sentiment", {"pooling": {"name": "cls", "layer": "all"}}, "'cls' of the poolings takes no option 'layer'"),
        ("sentiment", {"projection": {"layrs": 2}}, "projection.layrs: there is no such key. Did you mean 'layers'?"),
        ("sentiment", {"projection": {"layers": 0}}, "tasks.sentiment.projection.layers"),
        (
            "sentiment",
            {"projection": {"layers": 200_000}},
            "projection.layers: is 200000; wanted a number of at most 100.",
        ),
        (
            "sentiment",
            {"projection": {"width": 1_000_000, "hidden": 1_000_000}},
            "projection: has 2,000,004,000,000 parameters; a projection has at most 1,000,000,000.",
        ),
        ("sentiment", {"projection": {"width": 10**30}}, "tasks.sentiment.projection: cannot be built with {"),
        (
            "sentiment",
            {"projection": {"layers": 1, "width": 1_000_000}, "head": "mlp"},
            "tasks.sentiment.head: has 1,000,002,000,001 parameters; a head has at most 1,000,000,000.",
        ),
        ("sentiment", {"kind": {"name": "ordinal", "method": "corral"}}, "wanted 'corn' or 'coral'"),
        ("paraphrase", {"kind": {"name": "binary", "logits": 3}}, "wanted 1 or 2"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(
    tiny: Tiny, task: str, change: Mapping[str, Any], told: str
) -> None:
    recipe = tiny()
    recipe["tasks"][task] |= change
    assert told in refused(recipe)


def test_a_wrong_kind_is_told_once(tiny: Tiny) -> None:
    recipe = tiny()
    recipe["tasks"]["similarity"]["kind"] = SCORE | {"output": "cosin"}
    assert len(refused(recipe).splitlines()) == 2


def test_a_layer_that_the_encoder_lacks_is_refused(tiny: Tiny) -> None:
    recipe = tiny()
    recipe["tasks"]["sentiment"]["pooling"] = {"name": "first", "layers": [1, 3]}
    with pytest.raises(RecipeError, match=r"tasks\.sentiment\.pooling: layers has 3; the encoder has 2"):
        built(recipe)


def test_the_word_embeddings_of_an_lstm_are_not_one_of_its_layers(tiny: Tiny) -> None:
    encoder = {"architecture": "lstm", "width": 8, "hidden": 6, "dropout": 0.0}
    recipe = tiny(only=("sentiment",)) | {"encoder": encoder}
    for layers in ("all", [1, 2]):
        recipe["tasks"]["sentiment"]["pooling"] = {"name": "mean", "layers": layers}
        built(recipe)
    recipe["tasks"]["sentiment"]["pooling"]["layers"] = [0, 1]
    with pytest.raises(RecipeError, match=r"layers has 0; this encoder's layers are counted from 1"):
        built(recipe)


def test_a_pooler_that_reads_the_last_layer_alone_is_given_no_other(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bert, "pools_any_layer", False)  # as of an encoder from transformers
    recipe = tiny(only=("sentiment",))
    for layers in ("last", [2]):
        recipe["tasks"]["sentiment"]["pooling"] = {"name": "cls", "layers": layers}
        build(load_recipe(recipe))
    for layers in ("all", [1]):
        recipe["tasks"]["sentiment"]["pooling"] = {"name": "cls", "layers": layers}
        with pytest.raises(RecipeError, match="reads the last layer alone"):
            build(load_recipe(recipe))


def test_a_projection_stands_between_pooling_and_merge(tiny: Tiny) -> None:
    recipe = tiny(drop=0.0)
    features = ["u", "v", "squared_sum", "squared_difference", "cosine"]  # Irgau & Lalgudi, CS224N, §4
    recipe["tasks"]["similarity"] |= {
        "projection": {"layers": 3, "width": 7, "dropout": 0.0},
        "pair": {"name": "bi", "features": features},
    }
    recipe["tasks"]["sentiment"]["projection"] = {"layers": 1, "width": 9}
    model = built(recipe).model.eval()
    projection = model.head("similarity").projection
    assert isinstance(projection, Projection)
    assert isinstance(model.head("paraphrase").projection, nn.Identity)
    assert model.head("sentiment").head.width == 9
    u_ND, v_ND = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    u, v = projection(u_ND), projection(v_ND)
    cosine = (u * v).sum(1, keepdim=True) / (u.norm(dim=1) * v.norm(dim=1))[:, None]
    merged = torch.cat([u, v, (u + v) ** 2, (u - v) ** 2, cosine], 1)
    torch.testing.assert_close(model.head("similarity")([u_ND, v_ND]), (model.head("similarity").head(merged),))


def test_dropout_on_the_texts_of_a_pair_comes_before_they_are_merged(tiny: Tiny) -> None:
    recipe = tiny(drop=0.0, only=("similarity",))
    recipe["tasks"]["similarity"]["pair"] = {"name": "bi", "features": ["u", "v"], "dropout": 0.5}
    head = built(recipe).model.head("similarity")
    merged = []
    head.head.register_forward_pre_hook(lambda _, given: merged.append(given[0]))
    ones_ND = torch.ones(200, 32)
    torch.manual_seed(0)
    head.train()([ones_ND, ones_ND])
    head.eval()([ones_ND, ones_ND])
    dropped_ND, whole_ND = merged
    assert set(dropped_ND.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(*dropped_ND.chunk(2, dim=1))  # each text has a mask of its own
    assert torch.equal(whole_ND, torch.ones(200, 64))


@pytest.mark.parametrize("rate", [1.0, -0.1, True, "half"])
def test_a_rate_that_cannot_be_is_refused(tiny: Tiny, rate: Any) -> None:
    recipe = tiny()
    recipe["tasks"]["similarity"]["pair"] = {"name": "bi", "dropout": rate}
    assert "tasks.similarity.pair.dropout: option 'dropout' of 'bi' is" in refused(recipe)


def test_a_joined_pair_has_token_types_unless_the_recipe_leaves_them_out(tiny: Tiny) -> None:
    recipe = tiny()
    types = {}
    for pair in ("cross", {"name": "cross", "types": False}):
        recipe["tasks"]["paraphrase"]["pair"] = pair
        (stream,) = built(recipe).train_rows["paraphrase"].pack([0, 1]).streams
        types[str(pair)] = sorted(set(stream.types_P.tolist()))
    assert list(types.values()) == [[0, 1], [0]]


def test_coral_gives_any_head_one_score_at_thresholds(tiny: Tiny) -> None:
    recipe = tiny(only=("sentiment",), drop=0.0)
    recipe["tasks"]["sentiment"] |= {
        "kind": {"name": "ordinal", "method": "coral"},
        "head": {"name": "mlp", "layers": 2, "dropout": 0.0},
    }
    head = built(recipe).model.eval().head("sentiment")
    assert isinstance(head.thresholds, Thresholds)
    assert head.head.outputs == 1
    (logits_NC,) = head([torch.randn(3, 32, generator=torch.Generator().manual_seed(0))])
    assert logits_NC.shape == (3, 4)
    torch.testing.assert_close(torch.diff(logits_NC, dim=1), torch.diff(head.thresholds.bias).expand(3, 3))


def test_a_model_of_every_new_part_is_trained_saved_loaded_and_predicts(
    tiny: Tiny, tables: Path, tmp_path: Path
) -> None:
    recipe = tiny({"epochs": 1, "batch_size": 20, "learning_rate": 1e-3}, precision="bfloat16")
    recipe["tasks"]["sentiment"] |= {
        "kind": {"name": "ordinal", "method": "coral", "predict": "median"},
        "pooling": {"name": "multiplicative_attention", "layers": "all"},
        "projection": {"layers": 3},
    }
    recipe["tasks"]["paraphrase"] |= {
        "kind": {"name": "binary", "logits": 2},
        "pair": {"name": "cross", "types": False},
        "pooling": {"name": "attention", "layers": [0, 1]},
    }
    recipe["tasks"]["similarity"] |= {
        "kind": SCORE | {"output": "shifted_cosine"},
        "head": "cosine",
        "pair": BI,
        "pooling": "dot_attention",
    }
    folder = train(recipe, tmp_path / "run")
    run = load(folder)
    for task in recipe["tasks"]:  # the weights that come back are those that were evaluated
        run.predict_table(task, tables / f"{task}-dev.csv", tmp_path / "out.jsonl", "jsonl")
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
        kept = read_predictions(folder / "predictions" / f"{task}-dev.csv").records()
        assert records == [{key: record[key] for key in records[0]} for record in kept]
    names = {name for name, _ in run.model.heads["sentiment"].named_parameters()}
    assert {"pooling.query", "projection.layers.2.weight", "thresholds.bias"} <= names
    pairs = [("a good film", "a fine film"), ("it rains", "a good film"), ("it rains", "it rains")]
    found = run.predict("paraphrase", pairs, probabilities=True)
    assert [sum(row["probabilities"].values()) for row in found] == pytest.approx([1.0] * 3, abs=1e-5)
    scores = run.predict("similarity", pairs)
    assert all(0.0 <= score <= 5.0 for score in scores)
    assert scores[2] == pytest.approx(5.0, abs=0.01)  # equal texts
    assert set(run.predict("sentiment", ["a good film"])) <= {"0", "1", "2", "3", "4"}
