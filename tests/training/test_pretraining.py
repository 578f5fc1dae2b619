"""Pretraining as stages of their own: what is trained, that it learns, and that an interruption leaves no trace.

Shapes: N rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from polytask.assembly.parts import Parts, build
from polytask.evaluation.predicting import predict, predict_logits
from polytask.evaluation.scoring import score
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.model import Model, TaskView
from polytask.recipe.load import load_recipe
from polytask.run.journal import read_journal
from polytask.starter.examples import write_examples
from polytask.training.step import Step

Tiny = Callable[..., dict[str, Any]]
Crashed = Callable[[Mapping[str, Any], Path, int], Path]
CPU = torch.device("cpu")
STAGE = {"epochs": 1, "batch_size": 10, "learning_rate": 1e-3}
RDROP = [{"name": "rdrop", "weight": {"pairs": 0.5, "sentiment": 1.0}}]
TASKS: dict[str, dict[str, Any]] = {
    "words": {"kind": "mlm", "rows_from": ["sentiment", "paraphrase"], "max_rows": 60},
    "pairs": {"kind": "ranking", "rows_from": {"task": "paraphrase", "label": "1"}, "pooling": "mean"},
    "twice": {"kind": {"name": "ranking", "symmetric": True}, "rows_from": "sentiment", "pooling": "mean"},
}


def recipe_of(tiny: Tiny, *stages: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    recipe = tiny(*stages, only=("sentiment", "paraphrase"), **changes)
    recipe["tasks"] |= {name: dict(task) for name, task in TASKS.items()}
    return recipe


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_crash_in_pretraining_or_after_it_leaves_no_trace(
    tiny: Tiny, crashed: Crashed, tmp_path: Path, precision: str
) -> None:
    recipe = recipe_of(
        tiny,
        {**STAGE, "tasks": ["words"], "micro_batch": 4},
        {**STAGE, "tasks": ["pairs", "twice", "words"], "mixing": "joint", "aggregator": "pcgrad"},
        {**STAGE, "tasks": ["sentiment", "paraphrase", "pairs"], "regularizers": RDROP},
        precision=precision,
        checkpoint_every=4,
    )
    whole = train(recipe, tmp_path / "whole").folder
    steps = sum(event["event"] == "step" for event in read_journal(whole / "journal.jsonl"))
    assert steps == 6 + 6 + 16
    for place in {"float32": (3, 6, 9, 14), "bfloat16": (9,)}[precision]:
        run = crashed(recipe, tmp_path / f"crash-{place}", place)
        resume(run)
        assert_same(whole, run)


def assert_same(one: Path, other: Path) -> None:
    journals = [
        [
            {key: value for key, value in event.items() if key != "seconds"}
            for event in read_journal(run / "journal.jsonl")
        ]
        for run in (one, other)
    ]
    assert journals[0] == journals[1]
    files = [sorted(path.relative_to(run) for path in run.rglob("*.safetensors")) for run in (one, other)]
    assert files[0] == files[1]
    for name in files[0]:
        tensors, others = load_file(one / name), load_file(other / name)
        assert {key: tensor.tobytes() for key, tensor in tensors.items()} == {
            key: tensor.tobytes() for key, tensor in others.items()
        }


def test_a_text_and_itself_meet_different_dropout(tiny: Tiny) -> None:
    parts = build(load_recipe(recipe_of(tiny)))
    batch = parts.train_rows["twice"].pack(range(10))
    assert torch.equal(batch.streams[0].ids_P, batch.streams[1].ids_P)
    view = TaskView(parts.model.train(), parts.tasks["twice"], batch, (0, 0, 0, "twice", 0))
    u_ND, v_ND = view.run().logits_NC.chunk(2, dim=1)
    assert (u_ND != v_ND).any(1).all()
    assert (F.cosine_similarity(u_ND, v_ND) > 0.5).all()
    u_ND, v_ND = view.run(dropout="off").logits_NC.chunk(2, dim=1)
    torch.testing.assert_close(u_ND, v_ND)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_masks_come_from_the_step_and_the_row_however_a_batch_is_split(
    tiny: Tiny, step_of: Callable[..., Step], monkeypatch: pytest.MonkeyPatch, micro_batch: int | None
) -> None:
    parts = build(load_recipe(recipe_of(tiny, {**STAGE, "tasks": ["words"], "micro_batch": micro_batch})))
    rows, seen = parts.train_rows["words"], []
    pack = type(rows).pack

    def noted(self: Any, chosen: Any, key: tuple[int | str, ...] = ()) -> Any:
        batch = pack(self, chosen, key)
        seen.append(batch)
        return batch

    monkeypatch.setattr(type(rows), "pack", noted)
    step_of(parts)(2)
    assert len(seen) == (1 if micro_batch is None else 4)
    for batch in seen:
        ids_P = batch.streams[0].ids_P
        assert torch.equal(ids_P, pack(rows, batch.rows, (0, 0, 2, "words")).streams[0].ids_P)
        assert not torch.equal(ids_P, pack(rows, batch.rows, (0, 0, 3, "words")).streams[0].ids_P)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_a_step_of_a_language_model_is_that_of_plain_autograd(
    tiny: Tiny, step_of: Callable[..., Step], micro_batch: int | None
) -> None:
    """The table's gradient, from looking words up and from predicting them, goes into the one flat buffer."""
    stage = {**STAGE, "tasks": ["words"], "micro_batch": micro_batch, "clip": 0, "schedule": "constant"}
    parts = build(load_recipe(recipe_of(tiny, stage, drop=0.0)))
    wanted = plain_gradients(parts)
    step = step_of(parts)
    result = step(0)
    norm = torch.stack([gradient.square().sum() for gradient in wanted.values()]).sum().sqrt()
    assert result.norm == pytest.approx(norm.item(), rel=1e-4)
    block = step.weights.encoders["shared"]
    for slot in block.masters.slots:
        name = slot.name.removeprefix("encoders.shared.")
        torch.testing.assert_close(slot.of(block.m) / 0.1, wanted[name], atol=1e-6, rtol=1e-3)


def plain_gradients(parts: Parts) -> dict[str, torch.Tensor]:
    """Return the gradient of the first step's mean loss, by parameter, with the table used as any other tensor."""
    model: Model = parts.model.train()
    losses = []
    for micro in parts.stages[0].plan(0):
        batch = parts.train_rows["words"].pack(micro.rows, (0, 0, 0, micro.task))
        assert batch.labels_N is not None
        losses.append(parts.tasks["words"].kind.loss(model("words", batch), batch.labels_N))
    torch.autograd.backward(torch.cat(losses).mean())
    modules = {"": model.encoder("words"), "head.": model.head("words").head}
    found = {
        f"{prefix}{name}": parameter.grad
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad()
    return {name: gradient.clone() for name, gradient in found.items()}


def scored(parts: Parts, task: str) -> Mapping[str, float]:
    """Return what a task's dev rows score by the model as it is."""
    record, rows = parts.tasks[task], parts.dev_rows[task]
    logits_NC = predict_logits(parts.model, record, rows, CPU)
    return score(predict(record.kind, logits_NC, rows.ids, rows.labels_N), record.metrics).values


def test_a_language_model_learns_its_domain(tiny: Tiny, tmp_path: Path) -> None:
    stage = {"tasks": ["words"], "epochs": 12, "batch_size": 10, "learning_rate": 3e-3, "evaluate_every": 1000}
    recipe = recipe_of(tiny, stage, drop=0.0)
    recipe["tasks"]["words"] |= {"dev": 0.1, "max_rows": None}
    before = build(load_recipe(recipe))
    fresh = scored(before, "words")
    run = train(recipe, tmp_path / "run").folder
    learnt = load(run, checkpoint="last").evaluate("dev", "words").tasks["words"].values
    assert learnt["perplexity"] < 0.6 * fresh["perplexity"]
    assert learnt["accuracy"] > fresh["accuracy"] + 0.1


def test_ranking_brings_paraphrases_together(tmp_path: Path) -> None:
    """Two tiny layers, drawn at random, trained on duplicates; judged on pairs that were set apart."""
    write_examples(tmp_path)
    recipe = {
        "data": str(tmp_path),
        "precision": "float32",
        "device": "cpu",
        "encoder": {"layers": 2, "width": 64, "heads": 2, "hidden": 128, "dropout": 0.1},
        "tasks": {
            "paraphrase": {
                "kind": "binary",
                "train": "paraphrase-train.csv",
                "text": ["sentence1", "sentence2"],
                "label": "is_duplicate",
            },
            "pairs": {
                "kind": "ranking",
                "rows_from": {"task": "paraphrase", "label": "1"},
                "dev": 0.2,
                "pooling": "mean",
            },
        },
        "stages": [{"tasks": ["pairs"], "epochs": 5, "learning_rate": 1e-3, "evaluate_every": 1000}],
    }
    run = train(recipe, tmp_path / "run").folder
    parts = build(load_recipe(recipe))
    fresh = scored(parts, "pairs")
    learnt = load(run).evaluate("dev", "pairs").tasks["pairs"]
    assert learnt.rows > 50  # by chance, the mean reciprocal rank would be below 0.1
    assert learnt.values["mrr"] > 0.7
    assert learnt.values["mrr"] > fresh["mrr"] + 0.2
    pairs = list(zip(*parts_texts(recipe), strict=True))
    near = torch.tensor(load(run).predict("pairs", pairs))
    shuffled = [(first, pairs[(place + 1) % len(pairs)][1]) for place, (first, _) in enumerate(pairs)]
    far = torch.tensor(load(run).predict("pairs", shuffled))
    assert (near > far).float().mean() > 0.85
    assert near.mean() > far.mean() + 0.2


def parts_texts(recipe: dict[str, Any]) -> list[list[str]]:
    """Return the two columns of the pairs that are set apart."""
    from polytask.assembly.tables import read_tables

    loaded = load_recipe(recipe)
    dev = read_tables(loaded.recipe, loaded.base, lambda text: None)["pairs"].dev
    assert dev is not None
    return [list(column) for column in dev.texts]


@pytest.mark.parametrize("task", ["pairs", "words"])
def test_regularizers_act_on_pretraining_too(tiny: Tiny, step_of: Callable[..., Step], task: str) -> None:
    parts = build(load_recipe(recipe_of(tiny, {**STAGE, "tasks": [task], "regularizers": [{"name": "rdrop"}]})))
    assert step_of(parts)(0).penalties[task] > 0
    batch = parts.train_rows[task].pack(range(6), (1,))
    view = TaskView(parts.model, parts.tasks[task], batch, (0, 0, 0, task, 0))
    clean, again = view.run(), view.run(view.embeddings())
    assert not view.divergence(clean, again).any()
    nudged = view.run([words_PD + 0.1 * torch.randn_like(words_PD) for words_PD in view.embeddings()])
    assert view.divergence(clean, nudged).shape == (6,)
    assert (view.divergence(clean, nudged) > 0).all()


@pytest.mark.parametrize("task", ["pairs", "words"])
def test_a_frozen_encoder_or_its_last_layer(tiny: Tiny, step_of: Callable[..., Step], task: str) -> None:
    for chosen in ({"last": 1}, "heads") if task == "words" else ({"last": 1},):
        parts = build(load_recipe(recipe_of(tiny, {**STAGE, "tasks": [task], "train": chosen})))
        before = {name: tensor.clone() for name, tensor in parts.model.named_parameters()}
        step = step_of(parts)
        step(0)
        moved = {name for name, tensor in step.weights.tensors().items() if not torch.equal(tensor, before[name])}
        assert moved
        kept = f"heads.{task}." if chosen == "heads" else (f"heads.{task}.", "encoders.shared.layers.1.")
        assert all(name.startswith(kept) for name in moved)
