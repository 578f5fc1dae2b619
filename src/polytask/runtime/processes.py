"""The process group: one process, or as many as ``torchrun`` started."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process's rank among ``size``. Rank 0 writes; all compute, and all hold the same weights."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def add_up(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def most(self, number: int) -> int:
        """Return the largest of the numbers that the processes have."""
        if self.size == 1:
            return number
        found = torch.tensor([number])
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return int(found.item())

    def wait(self) -> None:
        """Return once all processes are here."""
        if self.size > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Say whether the flag is up in any process."""
        if self.size == 1:
            return flag
        raised = torch.tensor([int(flag)])
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return bool(raised.item())


def join() -> Processes:
    """Join the group that ``torchrun`` set up; alone when it did not."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Processes()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size())
