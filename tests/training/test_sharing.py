"""Encoders of tasks' own, and stages that train one task: what moves, what does not, and what the joint best is then."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polytask.aggregators.base import aggregators
from polytask.assembly.parts import Parts, build
from polytask.encoder.bert import Bert
from polytask.errors import UserError
from polytask.evaluation.predictions import Predictions, read_predictions
from polytask.heads.task import TokenHead
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.jobs.verify import same_runs
from polytask.metrics.base import Metric
from polytask.recipe.load import load_recipe
from polytask.run.folder import RunFolder
from polytask.run.journal import read_journal
from polytask.run.listen import Watcher
from polytask.run.scores import Scores
from polytask.training.bests import judges_of, owner
from polytask.training.stages import heirs, touched_tasks
from polytask.training.step import Step

Tiny = Callable[..., dict[str, Any]]
Crashed = Callable[[Mapping[str, Any], Path, int], Path]
PartsOf = Callable[[Mapping[str, Any]], Parts]
StepOf = Callable[..., Step]

TASKS = ("sentiment", "paraphrase", "similarity")
STAGE = {"steps": 4, "batch_size": 10, "learning_rate": 1e-3}


def own(recipe: dict[str, Any], *tasks: str) -> dict[str, Any]:
    for name in tasks or TASKS:
        recipe["tasks"][name]["encoder"] = "own"
    return recipe


def separate(tiny: Tiny, **changes: Any) -> dict[str, Any]:
    """Each task fine-tuned on its own, in a stage of its own with everything of its own."""
    return own(
        tiny(
            {**STAGE, "tasks": ["sentiment"], "steps": 5, "learning_rate": 3e-3, "evaluate_every": 2},
            {**STAGE, "tasks": ["paraphrase"], "batch_size": 6, "weight_decay": 0.1, "evaluate_every": 1},
            {**STAGE, "tasks": ["similarity"], "schedule": {"name": "cosine", "warmup": 2}, "evaluate_every": 2},
            **changes,
        )
    )


def with_words(recipe: dict[str, Any]) -> dict[str, Any]:
    recipe["tasks"]["words"] = {"kind": "mlm", "rows_from": "sentiment", "max_rows": 60}
    return recipe


def weights_of(run: Path, which: str = "last") -> dict[str, Tensor]:
    folder = RunFolder(run)
    return load_file(folder.weights(str(getattr(folder.read_index(), which))))


def part_of(weights: Mapping[str, Tensor], task: str, encoder: str) -> dict[str, Tensor]:
    prefixes = (f"encoders.{encoder}.", f"heads.{task}.")
    found = {name.removeprefix(prefixes[0]): tensor for name, tensor in weights.items() if name.startswith(prefixes)}
    assert len(found) > 20
    return found


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# -- what is built ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owners", [(), ("sentiment",), ("paraphrase", "similarity"), TASKS])
def test_encoders_exist_for_those_who_use_them_and_start_alike(tiny: Tiny, owners: tuple[str, ...]) -> None:
    model = build(load_recipe(own(tiny(), *owners) if owners else tiny())).model
    shared = {"shared"} if len(owners) < len(TASKS) else set()
    assert set(model.encoders) == shared | set(owners)
    assert model.encoder_of == {task: task if task in owners else "shared" for task in TASKS}
    drawn = build(load_recipe(tiny())).model
    for task in TASKS:
        assert_equal(dict(model.encoder(task).named_parameters()), dict(drawn.encoders["shared"].named_parameters()))
        assert_equal(dict(model.head(task).named_parameters()), dict(drawn.head(task).named_parameters()))
    storages = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(storages)) == len(storages)


def test_words_are_predicted_through_the_table_of_their_own_encoder(tiny: Tiny, parts_of: PartsOf) -> None:
    model = parts_of(own(with_words(tiny()), "words")).model
    head, encoder = model.head("words"), model.encoder("words")
    assert isinstance(head, TokenHead)
    assert isinstance(encoder, Bert)
    assert getattr(head.head.decode, "__self__", None) is encoder.embeddings.word
    assert encoder is not model.encoders["shared"]


def test_an_own_encoder_follows_its_tasks_rate_and_decay(tiny: Tiny, parts_of: PartsOf) -> None:
    recipe = own(tiny({**STAGE, "head_learning_rate": 0.5}), "sentiment", "paraphrase")
    recipe["tasks"]["sentiment"] |= {"learning_rate": 0.25, "weight_decay": 0.125}
    stage = parts_of(recipe).stages[0]
    assert stage.encoder_rules.keys() == {"sentiment", "paraphrase"}
    assert (stage.encoder_rules["sentiment"].learning_rate, stage.encoder_rules["sentiment"].weight_decay) == (
        0.25,
        0.125,
    )
    assert stage.encoder_rules["paraphrase"] == stage.rule  # a head's rate is no encoder's
    assert stage.head_rules["paraphrase"].learning_rate == 0.5


# -- what is handed down ----------------------------------------------------------------------------------------------


def pretrained(tiny: Tiny, **changes: Any) -> dict[str, Any]:
    """Words first, on the shared encoder, then a stage for each of two tasks with encoders of their own."""
    stages = ({**STAGE, "tasks": ["words"]}, {**STAGE, "tasks": ["sentiment"]}, {**STAGE, "tasks": ["paraphrase"]})
    recipe = tiny(*stages, only=("sentiment", "paraphrase"), checkpoint_every=3, **changes)
    return own(with_words(recipe), "sentiment", "paraphrase")


def test_own_encoders_begin_as_pretraining_left_the_shared_one(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Tensor]] = []
    built = Step.__init__

    def noted(self: Step, *parts: Any, **more: Any) -> None:
        built(self, *parts, **more)
        begun.append({name: tensor.clone() for name, tensor in self.weights.tensors().items()})

    monkeypatch.setattr(Step, "__init__", noted)
    run = train(pretrained(tiny), tmp_path / "run").folder
    drawn, words, last = begun
    for encoder, stage in (("sentiment", words), ("paraphrase", last)):
        assert_equal(encoder_part(stage, encoder), encoder_part(last, "shared"))
        assert not torch.equal(*(encoder_part(w, encoder)["embeddings.word.weight"] for w in (stage, drawn)))
    assert not torch.equal(*(encoder_part(last, e)["embeddings.word.weight"] for e in ("sentiment", "shared")))
    told = [event for event in read_journal(run / "journal.jsonl") if event["event"] == "start"]
    assert [(event["stage"], event["encoder"], event["as_is"]) for event in told] == [
        (1, "sentiment", "shared"),
        (2, "paraphrase", "shared"),
    ]


def encoder_part(weights: Mapping[str, Tensor], encoder: str) -> dict[str, Tensor]:
    prefix = f"encoders.{encoder}."
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


@pytest.mark.parametrize("steps", [4, 5, 8, 9, 11])
def test_handing_down_leaves_no_trace_of_a_crash(tiny: Tiny, crashed: Crashed, tmp_path: Path, steps: int) -> None:
    recipe = pretrained(tiny, precision="bfloat16")
    recipe["stages"][0]["average"] = 0.9
    whole = train(recipe, tmp_path / "whole").folder
    run = crashed(recipe, tmp_path / "run", steps)
    resume(run)
    same_runs(whole, run)


def test_nothing_is_handed_down_where_the_shared_encoder_has_not_moved(tiny: Tiny, parts_of: PartsOf) -> None:
    heads_first = {**STAGE, "tasks": ["similarity"], "train": "heads"}
    again = {**STAGE, "tasks": ["sentiment", "similarity"]}
    parts = parts_of(own(tiny(heads_first, again, again), "sentiment", "paraphrase"))
    assert [heirs(parts.model, parts.stages, number) for number in range(3)] == [[], [], []]
    parts = parts_of(separate(tiny))
    assert [heirs(parts.model, parts.stages, number) for number in range(3)] == [[], [], []]


# -- what moves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("what", ["all", "heads"])
@pytest.mark.parametrize("sharing", ["own", "shared"])
def test_a_stage_of_one_task_leaves_all_else_as_it_was(
    tiny: Tiny, tmp_path: Path, sharing: str, what: str, precision: str
) -> None:
    recipe = tiny({**STAGE, "tasks": ["sentiment"], "train": what}, precision=precision)
    if sharing == "own":
        own(recipe)
    before = dict(build(load_recipe(recipe)).model.named_parameters())
    after = weights_of(train(recipe, tmp_path / "run").folder)
    assert before.keys() == after.keys()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    encoder = "sentiment" if sharing == "own" else "shared"
    assert {"heads.sentiment.head.output.weight", "heads.sentiment.head.output.bias"} <= moved
    assert {owner_and_part(name) for name in moved} == (
        {("heads", "sentiment"), ("encoders", encoder)} if what == "all" else {("heads", "sentiment")}
    )


def owner_and_part(name: str) -> tuple[str, str]:
    part, who, _ = name.split(".", 2)
    return part, who


def test_only_the_active_tasks_encoder_has_an_optimizer(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(separate(tiny))
    for stage, task in enumerate(TASKS):
        step = step_of(parts, stage)
        assert set(step.weights.encoders) == {task}
        assert {name.rpartition(".")[0] for name in step.state_dict() if "encoder." in name or "head." in name} == {
            f"encoder.{task}",
            f"head.{task}",
        }
        step.release()


def test_one_task_does_not_hear_of_another(tiny: Tiny, tmp_path: Path) -> None:
    """What a task becomes does not depend on what an earlier stage did to another."""
    together = weights_of(train(separate(tiny), tmp_path / "together").folder)
    other = separate(tiny)
    other["stages"][0] |= {"learning_rate": 1e-2, "steps": 2}
    changed = weights_of(train(other, tmp_path / "other").folder)
    for task in ("paraphrase", "similarity"):
        assert_equal(part_of(together, task, task), part_of(changed, task, task))
    assert not torch.equal(
        together["heads.sentiment.head.output.weight"], changed["heads.sentiment.head.output.weight"]
    )


@pytest.mark.parametrize("mixing", ["joint", "proportional"])
def test_trained_side_by_side_own_encoders_are_as_trained_alone(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, mixing: str
) -> None:
    """In one stage, clipped hard: no task's gradient enters another's norm, and each moves as it would by itself."""
    tasks = (*TASKS, "words") if mixing == "joint" else TASKS  # masks are drawn from the step's number
    stage = {**STAGE, "steps": 6, "clip": 0.01, "mixing": mixing, "schedule": {"name": "constant", "warmup": 0}}
    stage["tasks"] = list(tasks)
    parts = parts_of(own(with_words(tiny(stage, drop=0.0)), *tasks))
    step = step_of(parts)
    for number in range(6):
        step(number)
    together = {name: tensor.clone() for name, tensor in step.weights.tensors().items()}
    turns = [{micro.task for micro in parts.stages[0].plan(number)} for number in range(6)]
    step.release()
    for task in tasks:
        alone = tiny({**stage, "tasks": [task], "mixing": "joint"}, drop=0.0)
        parts = parts_of(own(with_words(alone), *tasks))
        step = step_of(parts)
        for number in range(sum(task in turn for turn in turns)):
            step(number)
        assert_equal(part_of(together, task, task), part_of(step.weights.tensors(), task, task))


@pytest.mark.parametrize("surgery", [name for name in aggregators.names() if name != "sum"])
def test_surgery_acts_on_what_is_shared_only(tiny: Tiny, parts_of: PartsOf, step_of: StepOf, surgery: str) -> None:
    stage = {**STAGE, "mixing": "joint", "schedule": {"name": "constant", "warmup": 0}}
    found = {}
    for aggregator in ("sum", surgery):
        step = step_of(parts_of(own(tiny({**stage, "aggregator": aggregator}, drop=0.0), "similarity")))
        for number in range(4):
            step(number)
        found[aggregator] = {name: tensor.clone() for name, tensor in step.weights.tensors().items()}
    assert_equal(*(part_of(weights, "similarity", "similarity") for weights in found.values()))


# -- the joint best --------------------------------------------------------------------------------------------------


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [event for event in read_journal(run / "journal.jsonl") if event["event"] == "evaluation"]


FIRSTS = {"sentiment": "accuracy", "paraphrase": "accuracy", "similarity": "pearson"}


def test_the_joint_best_takes_each_own_encoder_at_its_best(tiny: Tiny, tmp_path: Path) -> None:
    recipe = separate(tiny)
    run = train(recipe, tmp_path / "run").folder
    index, events = RunFolder(run).read_index(), evaluations(run)
    best = load(run).evaluate().to_json()
    chosen = []
    for stage, task in enumerate(TASKS):
        within = [event["scores"][task][FIRSTS[task]] for event in events if event["stage"] == stage]
        assert best["tasks"][task][FIRSTS[task]] == max(within)  # not the untrained head's, were it better by chance
        chosen.append(within.index(max(within)) < len(within) - 1)
        after = {event["scores"][task][FIRSTS[task]] for event in events if event["stage"] > stage}
        assert after <= {within[-1]}  # later stages leave it where its own ended
    assert any(chosen), "the tables should make some task's best another than its last"
    assert best["aggregate"] == pytest.approx(index.best_aggregate)
    assert best["aggregate"] >= max(event["aggregate"] for event in events if event["stage"] == 2)
    assert_equal(load_file(run / "model.safetensors"), weights_of(run, "best"))


def test_dev_predictions_are_those_of_the_joint_best(tiny: Tiny, tables: Path, tmp_path: Path) -> None:
    run = train(separate(tiny), tmp_path / "run").folder
    predictor = load(run)
    for task in TASKS:
        predictor.predict_table(task, tables / f"{task}-dev.csv", tmp_path / "out.jsonl", "jsonl")
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
        kept = read_predictions(run / "predictions" / f"{task}-dev.csv").records()
        assert records == [{key: record[key] for key in records[0]} for record in kept]


class Evaluated(Watcher):
    """Takes note of which tasks are evaluated in each stage."""

    def __init__(self) -> None:
        self.seen: list[set[str]] = []

    def stage(self, number: int, stages: int, start: int, steps: int) -> None:
        self.seen.append(set())

    def evaluating(self, task: str, rows: int, done: int) -> None:
        self.seen[-1].add(task)


def test_a_stage_does_not_evaluate_anew_what_it_cannot_change(tiny: Tiny, tmp_path: Path) -> None:
    recipe = separate(tiny)
    parts = build(load_recipe(recipe))
    assert [touched_tasks(parts.model, stage) for stage in parts.stages] == [{task} for task in TASKS]
    shared = build(load_recipe(tiny({"tasks": ["sentiment"]}, {"tasks": ["sentiment"], "train": "heads"})))
    assert [touched_tasks(shared.model, stage) for stage in shared.stages] == [set(TASKS), {"sentiment"}]
    watcher = Evaluated()
    run = train(recipe, tmp_path / "run", listeners=[watcher]).folder
    assert watcher.seen == [{"sentiment"}, {"paraphrase"}, {"similarity"}]
    assert all(list(event["scores"]) == [*TASKS[: event["stage"] + 1]] for event in evaluations(run))
    last = load(run, checkpoint="last").evaluate().to_json()["tasks"]
    for task, scores in evaluations(run)[-1]["scores"].items():
        assert scores == {name: value for name, value in last[task].items() if not name.startswith("swap")}


def test_a_head_that_is_yet_to_be_trained_is_not_scored_and_cannot_make_a_best(tiny: Tiny, tmp_path: Path) -> None:
    """Words first, then one task, then both: chance is in no aggregate, and the best is of the stage that has both."""
    later = [{**STAGE, "tasks": tasks, "evaluate_every": 2} for tasks in (["sentiment"], ["sentiment", "paraphrase"])]
    words = {**STAGE, "tasks": ["words"], "evaluate_every": 1}
    run = train(with_words(tiny(words, *later, only=("sentiment", "paraphrase"))), tmp_path / "run").folder
    assert [(event["stage"], list(event["scores"]), event["best"]) for event in evaluations(run)][:3] == [
        (1, ["sentiment"], False),
        (1, ["sentiment"], False),
        (2, ["sentiment", "paraphrase"], True),
    ]
    index = RunFolder(run).read_index()
    assert str(index.best).startswith("3-")
    assert index.best_of["paraphrase"].startswith("3-")
    assert (run / "predictions" / "sentiment-dev.csv").exists()


def test_heads_that_nothing_trains_have_no_say_in_the_best(tiny: Tiny, tmp_path: Path) -> None:
    """Encoder and one head: the other heads stay as drawn, and what they score by chance does not choose."""
    recipe = tiny({**STAGE, "tasks": ["sentiment"], "steps": 12, "evaluate_every": 1})
    run = train(recipe, tmp_path / "run").folder
    events = evaluations(run)
    scores = [event["scores"]["sentiment"]["accuracy"] for event in events]
    assert RunFolder(run).read_index().best == f"1-{events[scores.index(max(scores))]['step']:06d}"
    assert set(load(run).evaluate().tasks) == set(TASKS)
    parts = build(load_recipe(recipe))
    assert judges_of(parts.model, parts.stages, TASKS) == {"shared": ["sentiment"]}


def test_an_own_encoder_without_dev_rows_is_best_as_it_is_last(tiny: Tiny, tmp_path: Path) -> None:
    recipe = separate(tiny)
    for task in ("paraphrase", "similarity"):
        del recipe["tasks"][task]["dev"]
    run = train(recipe, tmp_path / "run").folder
    best, last = load_file(run / "model.safetensors"), weights_of(run)
    peak = load_file(RunFolder(run).weights(RunFolder(run).read_index().best_of["sentiment"]))
    assert_equal(part_of(best, "sentiment", "sentiment"), part_of(peak, "sentiment", "sentiment"))
    for task in ("paraphrase", "similarity"):
        assert_equal(part_of(best, task, task), part_of(last, task, task))


def test_every_parameter_belongs_to_an_encoder(tiny: Tiny) -> None:
    model = build(load_recipe(own(tiny(), "sentiment"))).model
    assert {owner(model, name) for name, _ in model.named_parameters()} == {"shared", "sentiment"}
    assert owner(model, "heads.paraphrase.head.output.weight") == "shared"
    assert owner(model, "heads.sentiment.head.output.weight") == "sentiment"


# -- early stopping --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharing", ["own", "shared"])
def test_early_stopping_listens_to_the_stages_own_tasks_within_the_stage(
    tiny: Tiny, tmp_path: Path, sharing: str
) -> None:
    patience = {"evaluate_every": 2, "early_stopping": {"patience": 2}, "steps": 40}
    recipe = tiny(
        {**STAGE, **patience, "tasks": ["sentiment"]},
        {**STAGE, **patience, "tasks": ["paraphrase", "similarity"]},
        drop=0.0,
    )
    run = train(own(recipe) if sharing == "own" else recipe, tmp_path / "run").folder
    for stage, tasks in enumerate((["sentiment"], ["paraphrase", "similarity"])):
        values = [
            sum(event["scores"][task][FIRSTS[task]] for task in tasks) / len(tasks)
            for event in evaluations(run)
            if event["stage"] == stage
        ]
        stale: list[int] = []
        best = -1.0
        for value in values:
            stale.append(0 if value > best else stale[-1] + 1)
            best = max(best, value)
        assert all(count < 2 for count in stale[:-1])
        assert stale[-1] == 2 or len(values) == 20


def test_a_task_that_gets_better_by_chance_does_not_keep_anothers_stage_going(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage's task stands still while the others, on the same encoder, rise with every evaluation."""
    calls = itertools.count()

    def scripted(predictions: Predictions, metrics: Mapping[str, Metric]) -> Scores:
        still = len(predictions.names) == 5  # the sentiment
        return Scores(20, {next(iter(metrics)): 0.5 if still else 0.001 * next(calls)})

    monkeypatch.setattr("polytask.training.loop.score", scripted)
    stopping = {"evaluate_every": 1, "early_stopping": {"patience": 2}, "steps": 9, "tasks": ["sentiment"]}
    run = train(tiny({**STAGE, **stopping}), tmp_path / "run").folder
    assert len(evaluations(run)) == 3


# -- saved -----------------------------------------------------------------------------------------------------------


def test_each_own_encoder_can_be_saved(tiny: Tiny, tmp_path: Path) -> None:
    predictor = load(train(own(tiny(STAGE), "sentiment"), tmp_path / "run").folder)
    with pytest.raises(UserError, match="has the encoders 'sentiment' and 'shared'; name a task"):
        predictor.save_encoder(tmp_path / "any")
    words = {}
    for task in TASKS:
        predictor.save_encoder(str(tmp_path / task), task)
        words[task] = load_file(tmp_path / task / "model.safetensors")
        assert json.loads((tmp_path / task / "config.json").read_text())["num_hidden_layers"] == 2
    assert_equal(words["paraphrase"], words["similarity"])
    assert any(not torch.equal(tensor, words["sentiment"][name]) for name, tensor in words["similarity"].items())
