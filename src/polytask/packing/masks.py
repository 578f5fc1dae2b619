"""Dropout, with a mask that a CPU draws quickly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dropout(input: Tensor, rate: float, training: bool) -> Tensor:
    """Zero each entry with probability ``rate`` (to 1/65536) and scale the others up, drawn from the default generator.

    On a CPU torch draws its mask serially, 8 ns a number, a seventh of a small model's step; here each 64-bit draw
    serves four entries.
    """
    if not training or rate == 0.0:
        return input
    if input.device.type != "cpu":
        return F.dropout(input, rate, training)
    return input * _mask(input, rate)


def _mask(like: Tensor, rate: float) -> Tensor:
    dropped = min(round(rate * 65536), 65535)
    draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    lanes = draws.view(torch.int16)[: like.numel()].view(like.shape)
    return (lanes >= dropped - 32768).to(like.dtype).mul_(65536 / (65536 - dropped))
