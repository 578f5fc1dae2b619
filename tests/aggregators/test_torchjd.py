"""Members against TorchJD's aggregators, which are given whole gradients. Shapes: T tasks, W weights of the trunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torchjd.aggregation import IMTLG, MGDA, AlignedMTL, FairGrad, GradVac, PCGrad, UPGrad
from torchjd.linalg import DualConeProjector

from polytask.aggregators.base import GramianAggregator, aggregators


def weighing(name: str, **options: object) -> GramianAggregator:
    """Return a member that says with which weights gradients are added up."""
    member = aggregators.create(name, **options)
    assert isinstance(member, GramianAggregator)
    return member


TJD = Callable[[Tensor], Tensor]


def gradients(tasks: int, seed: int, width: int = 7) -> Tensor:
    return torch.randn(tasks, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Slsqp(DualConeProjector):
    """The projections' weights as TorchJD states the problem, from a general solver."""

    def __call__(self, U: Tensor, G: Tensor) -> Tensor:
        gramian_TT = (G / G.diagonal().mean()).numpy()  # the solver's tolerance is absolute
        rows = []
        for u_T in U.numpy():
            found = minimize(
                lambda v_T: v_T @ gramian_TT @ v_T,
                u_T,
                jac=lambda v_T: 2 * gramian_TT @ v_T,
                method="SLSQP",
                bounds=[(low, None) for low in u_T],
                options={"ftol": 1e-15, "maxiter": 500},
            )
            rows.append(found.x)
        return torch.from_numpy(np.stack(rows))


MEMBERS: dict[str, tuple[str, dict[str, Any], Callable[[], TJD], float]] = {
    "imtl_g": ("imtl_g", {}, IMTLG, 1e-9),
    "aligned_mtl": ("aligned_mtl", {}, AlignedMTL, 1e-9),
    "aligned_mtl, rmse": ("aligned_mtl", {"scale": "rmse"}, lambda: AlignedMTL(scale_mode="rmse"), 1e-9),
    "aligned_mtl, median": ("aligned_mtl", {"scale": "median"}, lambda: AlignedMTL(scale_mode="median"), 1e-9),
    "fairgrad": ("fairgrad", {}, lambda: FairGrad(alpha=2.0), 1e-4),  # its solver's tolerance
    "fairgrad, 1": ("fairgrad", {"alpha": 1.0}, lambda: FairGrad(alpha=1.0), 1e-4),
    "upgrad": ("upgrad", {}, lambda: UPGrad(projector=Slsqp()), 1e-5),
    "mgda": ("mgda", {}, lambda: MGDA(epsilon=1e-9, max_iters=2000), 1e-2),  # its steps crawl towards the end
    "pcgrad": ("pcgrad", {}, PCGrad, 1e-9),
}


@pytest.mark.parametrize(("name", "options", "make", "tolerance"), MEMBERS.values(), ids=list(MEMBERS))
def test_members_combine_as_torchjd_does(
    name: str, options: dict[str, Any], make: Callable[[], TJD], tolerance: float
) -> None:
    for seed in range(6):
        gradient_TW = 10.0 ** (seed // 3) * gradients(2 + seed % 3, seed)
        weights_T = weighing(name, **options).weights(gradient_TW @ gradient_TW.T, torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)  # where TorchJD draws from
        wanted_W = make()(gradient_TW)
        assert (weights_T @ gradient_TW - wanted_W).norm() <= tolerance * wanted_W.norm()


def test_gradvac_does_too_step_after_step(monkeypatch: pytest.MonkeyPatch) -> None:
    member, theirs = weighing("gradvac", beta=0.3), GradVac(beta=0.3, eps=0.0)
    turned = 0
    for seed in range(12):
        gradient_TW = gradients(4, seed) + 0.7 * gradients(1, 99)  # cosines mostly above 0: goals that PCGrad has not
        weights_T = member.weights(gradient_TW @ gradient_TW.T, torch.Generator().manual_seed(seed))
        monkeypatch.setattr(torch, "randperm", Orders(4, seed))
        wanted_W = theirs(gradient_TW)
        monkeypatch.undo()
        torch.testing.assert_close(weights_T @ gradient_TW, wanted_W, rtol=1e-9, atol=1e-9)
        pcgrad_T = weighing("pcgrad").weights(gradient_TW @ gradient_TW.T, torch.Generator().manual_seed(seed))
        turned += not torch.allclose(pcgrad_T, weights_T)
    assert turned > 6


class Orders:
    """Hands out the orders that a member draws, each without the task itself, as TorchJD numbers the others."""

    def __init__(self, tasks: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randperm(tasks, generator=generator).tolist() for _ in range(tasks)]
        self.left = [torch.tensor([j - (j > i) for j in order if j != i]) for i, order in enumerate(drawn)]

    def __call__(self, count: int) -> Tensor:
        return self.left.pop(0)
