"""The processes of a training run: one process, or several started by torchrun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
# rank 0 writes answers and features while the other ranks wait at a barrier
WAIT = timedelta(hours=12)


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of processes (`world`)."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def share(self, value: T) -> T:
        """Broadcast rank 0's value of a picklable object."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def sum(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over all ranks."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        if self.world > 1:
            dist.barrier()


ALONE = Ranks()


@contextmanager
def process_group(device: str, *, launched: bool) -> Iterator[Ranks]:
    """Join the process group if torchrun started this process.

    Args:
        device: Torch device, which selects NCCL or gloo.
        launched: Whether the environment variables of torchrun are set.
    """
    if not launched:
        yield ALONE
        return
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda:
        torch.cuda.set_device(device)  # NCCL sends picklable objects and barriers from the current device
    backend = "nccl" if is_cuda else "gloo"
    dist.init_process_group(backend, timeout=WAIT)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
