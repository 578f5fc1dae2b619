"""Both orders of a pair: whether encoded jointly or apart, exchanging the texts exchanges the logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from polytask.heads.orders import as_given, exchanged, neighbours

WEIGHT_DC = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))


def linear(vectors: object) -> Tensor:
    assert isinstance(vectors, list | tuple)
    out_NC: Tensor = sum((place + 1) * vector_ND @ WEIGHT_DC for place, vector_ND in enumerate(vectors))
    return out_NC


def test_one_order_as_it_is_given() -> None:
    u_ND = torch.randn(3, 4)
    (logits_NC,) = as_given(linear, [u_ND])
    assert torch.equal(logits_NC, u_ND @ WEIGHT_DC)


def test_neighbours_are_the_two_orders_of_a_row() -> None:
    ab_ND, ba_ND = torch.randn(2, 3, 4)
    both_MD = torch.stack([ab_ND[0], ba_ND[0], ab_ND[1], ba_ND[1], ab_ND[2], ba_ND[2]])
    ab_NC, ba_NC = neighbours(linear, [both_MD])
    torch.testing.assert_close(ab_NC, ab_ND @ WEIGHT_DC)
    torch.testing.assert_close(ba_NC, ba_ND @ WEIGHT_DC)


def test_texts_that_were_encoded_apart_change_places() -> None:
    u_ND, v_ND = torch.randn(2, 3, 4)
    uv_NC, vu_NC = exchanged(linear, [u_ND, v_ND])
    torch.testing.assert_close(uv_NC, (u_ND + 2 * v_ND) @ WEIGHT_DC)
    torch.testing.assert_close(vu_NC, (v_ND + 2 * u_ND) @ WEIGHT_DC)


def test_dropout_is_the_same_in_both_orders() -> None:
    u_ND, v_ND = torch.randn(2, 64, 4)
    uv_NC, vu_NC = exchanged(lambda vectors: F.dropout(vectors[0] + vectors[1], 0.5), [u_ND, v_ND])
    assert torch.equal(uv_NC, vu_NC)
    assert not torch.equal(F.dropout(u_ND, 0.5), F.dropout(u_ND, 0.5))
