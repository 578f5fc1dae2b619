"""What only a CUDA device can show: its numbers are the CPU's, its kernels and its memory serve as they are meant to.

Run by hand where one is: ``pytest -m gpu``. Shapes: N texts, P tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.encoder.base import Encoder
from polytask.encoder.bert import Bert, BertShape
from polytask.encoder.lstm import BiLstm
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.packing import PackedBatch
from polytask.run.journal import read_journal

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")]

Tiny = Callable[..., dict[str, Any]]
CUDA = torch.device("cuda")
SHAPE = BertShape(vocabulary=400, width=128, layers=4, heads=4, feed_forward=256, positions=128)
JOINT = {"steps": 12, "batch_size": 12, "learning_rate": 1e-3, "mixing": "joint", "evaluate_every": 6}
STRATEGIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "pcgrad": {"aggregator": "pcgrad"},
    "graddrop": {"aggregator": "graddrop"},
    "upgrad": {"aggregator": "upgrad"},
    "smart": {"regularizers": ["smart"]},
    "bregman": {"regularizers": ["bregman"]},
    "surgery of penalties in micro-batches": {"aggregator": "pcgrad", "regularizers": ["smart"], "micro_batch": 4},
    "average": {"average": 0.9},
}


def bert() -> Bert:
    return Bert(SHAPE)


def lstm() -> BiLstm:
    return BiLstm(400, embedding=32, hidden=32)


def texts(longest: int = 100) -> PackedBatch:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, longest, (24,), generator=generator).tolist()
    ids = [torch.randint(0, 400, (length,), generator=generator).tolist() for length in lengths]
    return PackedBatch.pack(ids, [[0] * (length // 2) + [1] * (length - length // 2) for length in lengths])


@pytest.fixture(params=[bert, lstm], ids=["bert", "lstm"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    made: Encoder = request.param()
    return made.eval()


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True], ids=["packed", "padded"])
def test_vectors_are_those_of_the_cpu(encoder: Encoder, padded: bool) -> None:
    here = encoder(texts())
    pooled_ND, layers = here.pooled(), list(here.layers)  # computed when asked for: before the weights go elsewhere
    there_texts = texts().to(CUDA)
    there = encoder.to(CUDA)(there_texts.padded() if padded else there_texts)
    torch.testing.assert_close(there.pooled().cpu(), pooled_ND, atol=1e-4, rtol=1e-4)  # cuDNN sums in its own order
    for layer, other in zip(layers, there.layers, strict=True):
        stream_PD = there_texts.stream(there_texts.padded().block(other)) if padded else other
        torch.testing.assert_close(stream_PD.cpu(), layer, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_kernel_of_all_lengths_gives_what_single_runs_give() -> None:
    torch.manual_seed(0)
    encoder, batch = bert().eval(), texts()
    exact_ND = encoder(batch).pooled()
    one_by_one_ND = torch.cat([encoder(text).pooled() for text in alone(batch)])
    torch.testing.assert_close(one_by_one_ND, exact_ND, atol=2e-5, rtol=1e-4)
    bf16_ND = encoder.to(CUDA)(batch.to(CUDA), dtype=torch.bfloat16).pooled().float().cpu()
    padded_ND = encoder(batch.to(CUDA).padded(), dtype=torch.bfloat16).pooled().float().cpu()
    assert (bf16_ND - exact_ND).abs().max() < 0.03
    assert (bf16_ND - exact_ND).norm() < 1.5 * (padded_ND - exact_ND).norm() + 1e-3


def alone(batch: PackedBatch) -> list[PackedBatch]:
    ids, types = (torch.split(part_P, list(batch.lengths)) for part_P in (batch.ids_P, batch.types_P))
    return [PackedBatch.pack([text.numpy()], [its.numpy()]) for text, its in zip(ids, types, strict=True)]


def losses_of(run: Path) -> list[dict[str, float]]:
    return [event["losses"] for event in read_journal(run / "journal.jsonl") if event["event"] == "step"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_training_follows_the_cpu(tiny: Tiny, tmp_path: Path, name: str) -> None:
    stage = JOINT | STRATEGIES[name]
    here = losses_of(train(tiny(stage, drop=0.0), tmp_path / "cpu").folder)
    there = losses_of(train(tiny(stage, drop=0.0, device="cuda"), tmp_path / "cuda").folder)
    for ours, theirs in zip(here, there, strict=True):
        for task, loss in ours.items():
            assert theirs[task] == pytest.approx(loss, rel=3e-3, abs=3e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_was_torn_down_goes_on(
    tiny: Tiny, crashed: Callable[..., Path], tmp_path: Path, precision: str
) -> None:
    """The dropout of a step is drawn from its number, on a GPU too; sums over a table's rows take any order there."""
    recipe = tiny(JOINT | {"aggregator": "pcgrad"}, device="cuda", precision=precision, checkpoint_every=3)
    whole = losses_of(train(recipe, tmp_path / "whole").folder)
    run = crashed(recipe, tmp_path / "run", 7)
    resume(run)
    again = losses_of(run)
    assert len(again) == len(whole) == JOINT["steps"]
    for one, other in zip(whole, again, strict=True):
        assert other == pytest.approx(one, rel=2e-2, abs=2e-3)


def test_what_a_gpu_trained_a_cpu_predicts(tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny(JOINT, device="cuda"), tmp_path / "run").folder
    pairs = [("a film", "a story"), ("one", "two")]
    found = [load(run, device=device).predict("similarity", pairs) for device in ("cuda", "cpu")]
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_a_batch_beyond_the_memory_is_cut(tiny: Tiny, tmp_path: Path) -> None:
    """The device is left a share of its memory in which the whole batch does not fit."""
    recipe = tiny({"steps": 3, "batch_size": 60, "learning_rate": 1e-4}, device="cuda", only=("sentiment",))
    recipe["encoder"] = {"layers": 4, "width": 512, "heads": 8, "dropout": 0.1}
    recipe["tasks"]["sentiment"]["train"] = [
        {"sentence": f"story {row} " * 50, "sentiment": str(row % 2)} for row in range(120)
    ]
    recipe["tasks"]["sentiment"]["dev"] = 0.1
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated() + 1.3e9
    torch.cuda.set_per_process_memory_fraction(held / torch.cuda.get_device_properties(0).total_memory)
    try:
        run = train(recipe, tmp_path / "run").folder
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    events = read_journal(run / "journal.jsonl")
    assert [event["micro_batch"] for event in events if event["event"] == "memory"]
    assert sum(event["event"] == "step" for event in events) == 3
