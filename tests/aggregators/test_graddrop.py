"""GradDrop against TorchJD's, with the same draws, and against its own definition. Shapes: T tasks, n numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import GradDrop as TheirGradDrop

from polytask.aggregators import graddrop
from polytask.aggregators.base import aggregators
from polytask.errors import RecipeError


def gradients(tasks: int, seed: int, width: int = 300) -> Tensor:
    return torch.randn(tasks, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_torchjds(seed: int, leak: float) -> None:
    gradients_Tn = gradients(2 + seed % 3, seed)
    ours_n = aggregators.create("graddrop", leak=leak).combine(gradients_Tn, torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)  # where TorchJD draws from
    theirs_n = TheirGradDrop(leak=torch.full((len(gradients_Tn),), leak))(gradients_Tn)
    torch.testing.assert_close(ours_n, theirs_n, rtol=1e-5, atol=1e-6)


def test_one_sign_is_kept_as_often_as_it_is_pure() -> None:
    gradients_Tn = torch.tensor([[3.0], [-1.0]]).expand(2, 20_000)
    kept_n = aggregators.create("graddrop").combine(gradients_Tn, torch.Generator().manual_seed(0))
    assert sorted(set(kept_n.tolist())) == [-1.0, 3.0]
    assert (kept_n == 3.0).float().mean().item() == pytest.approx(0.75, abs=0.01)  # ½ (1 + (3 − 1) / (3 + 1))


def test_chunks_change_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients_Tn = gradients(3, 5)
    monkeypatch.setattr(graddrop, "_CHUNK", 64)
    combined_n = aggregators.create("graddrop").combine(gradients_Tn, torch.Generator().manual_seed(2))
    pieces = torch.split(gradients_Tn, 64, dim=1)
    generator = torch.Generator().manual_seed(2)
    expected_n = torch.cat([aggregators.create("graddrop").combine(piece_Tc, generator) for piece_Tc in pieces])
    assert torch.equal(combined_n, expected_n)
    assert torch.equal(aggregators.create("graddrop").combine(torch.zeros(2, 100)), torch.zeros(100))


@pytest.mark.parametrize("leak", [-0.1, 1.1])
def test_a_leak_that_cannot_be_is_refused(leak: float) -> None:
    with pytest.raises(RecipeError, match="leak is"):
        aggregators.create("graddrop", leak=leak)
