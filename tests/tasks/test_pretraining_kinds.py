"""Auxiliary tasks, and what pretraining asks of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.assembly.model import adopt_heads
from polytask.assembly.parts import build
from polytask.encoder.bert import save_bert
from polytask.errors import RecipeError, UserError
from polytask.heads.task import TokenHead
from polytask.inference.predictor import load
from polytask.jobs.dry import dry_run
from polytask.jobs.train import train
from polytask.recipe.load import load_recipe
from polytask.run.folder import RunFolder
from polytask.run.journal import read_journal

Tiny = Callable[..., dict[str, Any]]
STAGE = {"steps": 3, "batch_size": 10, "learning_rate": 1e-3}


def refused(recipe: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as raised:
        load_recipe(recipe)
    return str(raised.value)


def pretraining(tiny: Tiny, *stages: dict[str, Any], **extra: Any) -> dict[str, Any]:
    recipe = tiny(*stages, only=("sentiment", "paraphrase"))
    recipe["tasks"]["words"] = {"kind": "mlm", "rows_from": ["sentiment", "paraphrase"]} | extra.get("words", {})
    ranking = {"kind": "ranking", "rows_from": {"task": "paraphrase", "label": "1"}, "pooling": "mean"}
    recipe["tasks"]["pairs"] = ranking | extra.get("pairs", {})
    return recipe


@pytest.mark.parametrize(
    ("stage", "task", "wanted"),
    [
        ({"micro_batch": 4}, {}, "micro_batch = 4 would split its batch of 32 of the task 'pairs'"),
        ({"micro_batch": 4, "batch_size": 8}, {}, "micro_batch = 4 would split its batch of 8"),
        ({"micro_batch": 40, "batch_tokens": 500}, {}, "micro_batch = 40 would split batch_tokens = 500"),
        ({"micro_batch": 8}, {"batch_size": 9}, "micro_batch = 8 would split its batch of 9"),
        ({"train": "heads"}, {}, "the task 'pairs' has no head, so train = \"heads\" leaves it nothing to train"),
        ({"batch_size": 1}, {}, "a batch of one row leaves the task 'pairs' nothing to tell it from"),
        ({}, {"batch_size": 1}, "its batch_size and its sample are at least 2"),
        ({"batch_tokens": 500}, {"sample": 1}, "its batch_size and its sample are at least 2"),
        ({}, {"head": "mlp"}, "'ranking' takes no 'head'"),
        ({}, {"pair": {"name": "bi", "features": ["u"]}}, "'pair' takes no options there"),
        ({}, {"evaluate": True}, "evaluate = true needs a dev table"),
        ({}, {"labels": ["a", "b"]}, "it learns from texts and takes no labels"),
    ],
)
def test_what_ranking_refuses(tiny: Tiny, stage: dict[str, Any], task: dict[str, Any], wanted: str) -> None:
    recipe = pretraining(tiny, stage, pairs=task)
    if "labels" in task:
        with pytest.raises(RecipeError, match=wanted):
            build(load_recipe(recipe))
    else:
        assert wanted in refused(recipe)


@pytest.mark.parametrize(
    "stage", [{"micro_batch": 10, "batch_size": 10}, {"micro_batch": 4, "tasks": ["sentiment", "words"]}, {}]
)
def test_a_batch_that_stays_whole_is_let_through(tiny: Tiny, stage: dict[str, Any]) -> None:
    load_recipe(pretraining(tiny, stage))
    load_recipe(pretraining(tiny, {"micro_batch": 4}, pairs={"batch_size": 4}))


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ({"head": "mlp"}, "'mlm' takes no 'head'"),
        ({"pooling": "mean"}, "'mlm' takes no 'pooling'"),
        ({"kind": {"name": "mlm", "rat": 0.2}}, "'mlm' of the kinds takes no option 'rat'. Did you mean 'rate'?"),
    ],
)
def test_what_a_language_model_refuses(tiny: Tiny, task: dict[str, Any], wanted: str) -> None:
    assert wanted in refused(pretraining(tiny, words=task))


def test_ranking_has_no_batch_without_negatives(tiny: Tiny) -> None:
    stage = {"epochs": 1, "batch_size": 8, "tasks": ["pairs"]}
    plan = build(load_recipe(pretraining(tiny, stage, pairs={"max_rows": 17}))).stages[0].plan
    assert sorted(len(micro.rows) for step in range(plan.steps) for micro in plan(step)) == [8, 9]
    assert plan.passes == {"pairs": 1.0}
    with pytest.raises(RecipeError, match=r"tasks\.pairs: has one row to train on"):
        build(load_recipe(pretraining(tiny, stage, pairs={"max_rows": 1})))


def test_a_language_model_needs_our_own_bert(tiny: Tiny) -> None:
    recipe = pretraining(tiny) | {"encoder": {"architecture": "lstm", "width": 16, "hidden": 8}}
    assert "tasks.words.kind: 'mlm' predicts words through the word table of our own BERT" in refused(recipe)
    del recipe["tasks"]["words"]
    build(load_recipe(recipe))  # ranking needs vectors only


def test_a_tokenizer_without_a_mask_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polytask.data.tokens.Tokenizer.mask", None)
    with pytest.raises(RecipeError, match=r"'mlm' needs a tokenizer that has \[MASK\]"):
        build(load_recipe(pretraining(tiny)))


# -- auxiliary -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all four tasks, three of them auxiliary."""
    recipe = pretraining(tiny, {**STAGE, "mixing": "joint", "aggregator": "pcgrad"})
    recipe["tasks"]["paraphrase"]["evaluate"] = False
    return train(recipe, tmp_path_factory.mktemp("auxiliary") / "run").folder


def test_auxiliary_tasks_are_trained_on_and_not_judged_by(run: Path) -> None:
    events = read_journal(run / "journal.jsonl")
    assert {task for event in events if event["event"] == "step" for task in event["losses"]} == {
        "sentiment",
        "paraphrase",
        "words",
        "pairs",
    }
    (evaluation,) = [event for event in events if event["event"] == "evaluation"]
    assert list(evaluation["scores"]) == ["sentiment"]
    assert evaluation["aggregate"] == evaluation["scores"]["sentiment"]["accuracy"]
    assert list(RunFolder(run).read_index().best_of) == ["sentiment"]
    assert [file.name for file in (run / "predictions").iterdir()] == ["sentiment-dev.csv"]


def test_evaluating_passes_auxiliary_tasks_over(run: Path, tables: Path) -> None:
    predictor = load(run)
    for split in ("dev", "train"):
        assert list(predictor.evaluate(split).tasks) == ["sentiment"]
    for name in ("paraphrase", "words", "pairs"):
        with pytest.raises(UserError, match=f"Task '{name}' is auxiliary"):
            predictor.evaluate("dev", name)
    assert predictor.evaluate_table("paraphrase", str(tables / "paraphrase-dev.csv")).rows == 20
    assert predictor.evaluate_table("pairs", str(tables / "paraphrase-dev.csv")).values.keys() == {"mrr", "accuracy"}


def test_where_all_tasks_are_auxiliary_none_is_evaluated(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({"steps": 1}, only=("sentiment",))
    recipe["tasks"]["sentiment"]["evaluate"] = False
    said: list[str] = []
    build(load_recipe(recipe), said.append)
    assert "Task 'sentiment': its dev table is not scored, because of evaluate = false." in said
    predictor = load(train(recipe, tmp_path / "run").folder)
    with pytest.raises(UserError, match="Every task of this run is auxiliary: none is evaluated"):
        predictor.evaluate()


def test_auxiliary_tasks_can_be_asked(run: Path) -> None:
    predictor = load(run)
    assert len(predictor.predict("paraphrase", [("a", "b")])) == 1
    same, other = predictor.predict("pairs", [("the film", "the film"), ("the film", "a nice and long evening")])
    assert same == pytest.approx(1.0, abs=1e-5)
    assert other < 1.0
    (perplexity,) = predictor.predict("words", ["the film was good"])
    assert perplexity > 1.0
    assert predictor.predict("words", ["the film was good"]) == [perplexity]


def test_a_dry_run_knows_them(tiny: Tiny) -> None:
    outlook = dry_run(pretraining(tiny, {**STAGE}))
    assert outlook.tasks["words"].dev == 0
    assert outlook.tasks["words"].train > 100


def test_a_language_model_reads_texts_whole_that_are_too_long_for_one_input(tiny: Tiny) -> None:
    whole = build(load_recipe(pretraining(tiny, {**STAGE}))).train_rows["words"]
    pieces = build(load_recipe(pretraining(tiny, {**STAGE}, words={"max_length": 6}))).train_rows["words"]
    assert pieces.columns[0].lengths.sum() == whole.columns[0].lengths.sum()
    assert (pieces.truncated, int(pieces.lengths.max())) == (0, 6)
    assert len(pieces) > len(whole)
    assert set(pieces.ids) == set(whole.ids)


def test_with_a_dev_table_pretraining_is_judged_like_any_task(tiny: Tiny, tmp_path: Path) -> None:
    recipe = pretraining(tiny, {**STAGE, "tasks": ["words", "pairs"]}, words={"dev": 0.2}, pairs={"dev": 0.3})
    run = train(recipe, tmp_path / "run").folder
    (event,) = [event for event in read_journal(run / "journal.jsonl") if event["event"] == "evaluation"]
    scores = event["scores"]
    assert scores["words"].keys() == {"rows", "accuracy", "perplexity"}
    assert scores["pairs"].keys() == {"rows", "mrr", "accuracy"}
    assert 1 < scores["words"]["perplexity"] < 1e4
    again = load(run, checkpoint="last").evaluate().to_json()
    assert again["tasks"]["words"] == scores["words"]  # dev masks are always the same
    assert again["tasks"]["pairs"] == scores["pairs"]


# -- the checkpoint's own head ---------------------------------------------------------------------------------------


def test_the_checkpoints_own_head_is_taken_up_and_kept_in_the_run(tiny: Tiny, tmp_path: Path) -> None:
    first = build(load_recipe(pretraining(tiny)))
    encoder = first.model.encoder("words")
    folder = tmp_path / "checkpoint"
    save_bert(encoder, folder, first.tokenizer.json)  # type: ignore[arg-type]
    recipe = pretraining(tiny, {**STAGE, "tasks": ["words"]}) | {"encoder": {"checkpoint": str(folder)}}
    told: list[str] = []
    build(load_recipe(recipe), told.append)
    assert "Task 'words': the masked-language-model head is new: the checkpoint has none." in told
    stored = with_language_head(folder)
    told.clear()
    parts = build(load_recipe(recipe), told.append)
    assert "Task 'words': the masked-language-model head is the checkpoint's own." in told
    assert_holds(parts.model.head("words"), stored)
    run = train(recipe | {"stages": [{**STAGE, "tasks": ["sentiment"]}]}, tmp_path / "run").folder
    assert_holds(load(run, checkpoint="last").model.head("words"), stored)


def with_language_head(folder: Path) -> dict[str, torch.Tensor]:
    """Put a random head under its foreign names into a checkpoint, and return it under ours."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    words, width = tensors["embeddings.word_embeddings.weight"].shape
    shapes = {"transform.dense.weight": (width, width), "transform.dense.bias": (width,), "bias": (words,)}
    shapes |= {"transform.LayerNorm.weight": (width,), "transform.LayerNorm.bias": (width,)}
    made = {f"cls.predictions.{name}": torch.randn(shape) for name, shape in shapes.items()}
    save_file(tensors | made, folder / "model.safetensors")
    ours = {"transform.dense": "dense", "transform.LayerNorm": "norm", "": ""}
    found = {}
    for name, tensor in made.items():
        module, _, kind = name.removeprefix("cls.predictions.").rpartition(".")
        found[f"{ours[module]}.{kind}".removeprefix(".")] = tensor
    return found


def assert_holds(head: Any, stored: dict[str, torch.Tensor]) -> None:
    assert isinstance(head, TokenHead)
    own = dict(head.head.named_parameters())
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[name].data, stored[name]) for name in own)


def test_heads_that_do_not_fit_are_refused(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = build(load_recipe(pretraining(tiny)))
    wrong = {name: torch.zeros(3) for name in ("dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias")}
    monkeypatch.setattr("polytask.tasks.kinds.mlm.load_language_head", lambda folder: wrong)
    with pytest.raises(UserError, match=r"has a tensor of the shape \(3,\)"):
        adopt_heads(parts.model, parts.tasks, tmp_path, lambda text: None)


def test_texts_in_memory_need_no_label(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({**STAGE, "tasks": ["words"]}, only=("sentiment",))
    texts = [{"text": f"a text about number {number}", "other": None} for number in range(12)]
    recipe["tasks"]["words"] = {"kind": "mlm", "train": texts, "text": "text"}
    run = train(recipe, tmp_path / "run").folder
    assert load(run).predict("words", ["a text"])[0] > 1
