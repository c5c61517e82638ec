"""The process's rank among those that torchrun started. Outside torchrun there is one rank and nothing to synchronize."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world_size() -> int:
    """Number of ranks; 1 outside torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank, from 0; 0 outside torchrun."""
    return dist.get_rank() if world_size() > 1 else 0


def is_leader() -> bool:
    """Only rank 0 writes files, logs and notifies listeners."""
    return rank() == 0


def is_alone() -> bool:
    """Whether this process is the only rank."""
    return world_size() == 1


def init_process_group() -> None:
    """Connect the ranks where torchrun started this process: nccl on GPUs, gloo on CPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def barrier() -> None:
    """Wait until every rank has reached this line."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def leader_first() -> Iterator[None]:
    """Rank 0 runs the block before the other ranks, which can then read the files it wrote."""
    if not is_leader():
        barrier()
    yield
    if is_leader():
        barrier()


def rank_slice(count: int) -> slice:
    """This rank's rows out of `count`: contiguous, and at most one row longer than any other rank's."""
    size, remainder = divmod(count, world_size())
    start = rank() * size + min(rank(), remainder)
    return slice(start, start + size + (rank() < remainder))


def average_over_ranks(values: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor's mean over all ranks."""
    if world_size() == 1:
        return list(values)
    found = [value.detach().clone() for value in values]
    for value in found:
        dist.all_reduce(value)
        value /= world_size()
    return found


def gather_objects(value: T) -> list[T]:
    """The value of every rank, in rank order. `value` must be picklable and not None."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return [each for each in values if each is not None]
