"""Precision is chosen from what the processor states, and a device that is not there is said to be missing."""

from __future__ import annotations

import pytest
import torch

from polytask.errors import Unavailable
from polytask.runtime.device import (
    DTYPES,
    multiplies_bfloat16,
    pick_device,
    pick_precision,
    processor_kind,
    surroundings,
)
from polytask.runtime.processes import Processes, join

CPU = torch.device("cpu")


def states(monkeypatch: pytest.MonkeyPatch, *, amx: bool, avx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)


@pytest.mark.parametrize(
    ("amx", "avx", "wanted"),
    [(False, False, "float32"), (True, False, "bfloat16"), (False, True, "bfloat16"), (True, True, "bfloat16")],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx: bool, wanted: str
) -> None:
    states(monkeypatch, amx=amx, avx=avx)
    assert pick_precision("auto", CPU) == wanted
    assert multiplies_bfloat16(CPU) == (wanted == "bfloat16")


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("able", [True, False])
def test_a_precision_that_is_asked_for_by_name_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, able: bool) -> None:
    states(monkeypatch, amx=able, avx=able)
    assert pick_precision(name, CPU) == name


def test_a_device_without_a_statement_computes_in_float32() -> None:
    assert pick_precision("auto", torch.device("mps")) == "float32"


def test_auto_is_the_cpu_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(Unavailable, match=f"Device '{name}'"):
        pick_device(name)


def test_the_processor_is_described_with_what_results_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    states(monkeypatch, amx=True, avx=True)
    assert processor_kind(CPU).endswith(" AMX")
    states(monkeypatch, amx=False, avx=True)
    assert processor_kind(CPU).endswith(" AVX512-BF16")
    states(monkeypatch, amx=False, avx=False)
    assert "AMX" not in processor_kind(CPU)
    assert torch.backends.cpu.get_cpu_capability() in processor_kind(CPU)


def test_surroundings_name_versions_processor_and_threads() -> None:
    told = surroundings(CPU)
    assert told["torch"] == torch.__version__
    assert told["processor"] == processor_kind(CPU)
    assert told["threads"] == torch.get_num_threads()


def test_one_process_adds_up_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    alone = join()
    assert alone == Processes(0, 1)
    assert alone.leads
    tensor = torch.tensor([2.0])
    alone.add_up(tensor)
    alone.wait()
    assert tensor.item() == 2.0
    assert alone.any(True)
    assert not alone.any(False)
