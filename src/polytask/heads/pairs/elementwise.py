from __future__ import annotations

from torch import Tensor

from .base import PairFeature, pair_features


@pair_features.register("u")
class First(PairFeature):
    """u, the vector of the first text."""

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return u_ND


@pair_features.register("v")
class Second(PairFeature):
    """v, the vector of the second text."""

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return v_ND


@pair_features.register("abs_difference")
class AbsDifference(PairFeature):
    """|u − v| (Conneau et al. 2017, §3.1)."""

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return (u_ND - v_ND).abs()


@pair_features.register("product")
class Product(PairFeature):
    """u ∗ v, element by element (Conneau et al. 2017, §3.1)."""

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return u_ND * v_ND


@pair_features.register("sum")
class Sum(PairFeature):
    """u + v (Ma, Albright & Li, CS224N, §3.2)."""

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return u_ND + v_ND


@pair_features.register("difference")
class Difference(PairFeature):
    """u − v (Ma, Albright & Li, §3.2, and Kumar, §4, both CS224N)."""

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return u_ND - v_ND


@pair_features.register("squared_sum")
class SquaredSum(PairFeature):
    """(u + v)², element by element (Irgau & Lalgudi, CS224N, §4)."""

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return (u_ND + v_ND) ** 2


@pair_features.register("squared_difference")
class SquaredDifference(PairFeature):
    """(u − v)², element by element (Irgau & Lalgudi, CS224N, §4)."""

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return (u_ND - v_ND) ** 2
