"""One training on several devices or machines, under torchrun: the same result as one process with the same batches.

Every rank runs the model on its part of each batch. Logits (and features) are gathered, so that losses and regularizers see
the whole batch and all of its groups; gradients are summed; batch norm takes its statistics over the whole batch. Outside
torchrun everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


def world() -> int:
    """How many ranks there are; 1 outside torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world() > 1 else 0


def is_leader() -> bool:
    """Rank 0 alone writes, logs and tells listeners."""
    return rank() == 0


def join() -> None:
    """Meet the other ranks where torchrun started this process; nccl on GPUs, gloo on CPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def wait() -> None:
    """Until all ranks are here."""
    if world() > 1:
        dist.barrier()


@contextmanager
def leader_first() -> Iterator[None]:
    """The leader goes through the block before the others: what it leaves on disk they find."""
    if not is_leader():
        wait()
    yield
    if is_leader():
        wait()


def part(count: int) -> slice:
    """This rank's rows of `count`."""
    size, more = divmod(count, world())
    start = rank() * size + min(rank(), more)
    return slice(start, start + size + (rank() < more))


def gather(values: Tensor, count: int) -> Tensor:
    """Every rank's part [n, ...] -> all `count` rows in order, differentiable."""
    if world() == 1:
        return values
    gathered: Tensor = _Gather.apply(values, count)
    return gathered


def gather_objects(value: Any) -> list[Any]:
    """Of every rank, in order."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, count: int) -> Tensor:
        ctx.rows = part(count)
        most = -(-count // world())
        padded = values.new_zeros(most, *values.shape[1:])
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in range(world())]
        dist.all_gather(parts, padded.contiguous())
        size, more = divmod(count, world())
        return torch.cat([each[: size + (number < more)] for number, each in enumerate(parts)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rows], None


class _Sum(torch.autograd.Function):
    """Over ranks; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def backward(loss: Tensor, model: nn.Module) -> None:
    """Gradients of a loss that every rank computed over the whole batch."""
    (loss / world()).backward()  # type: ignore[no-untyped-call]
    if world() > 1:
        for parameter in model.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)


def share_state(model: nn.Module) -> None:
    """The leader's parameters and buffers for all."""
    if world() > 1:
        for value in model.state_dict(keep_vars=True).values():
            dist.broadcast(value.detach(), 0)


@contextmanager
def whole_batch_norm() -> Iterator[None]:
    """Batch norm in training mode takes mean and variance over the whole batch, on any device."""
    if world() == 1:
        yield
        return
    plain: Callable[..., Tensor] = F.batch_norm

    def synced(
        x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
        bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        if not training:
            return plain(x, running_mean, running_var, weight, bias, training, momentum, eps)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        wide = x.float()
        count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
        dist.all_reduce(count)
        mean = _Sum.apply(wide.sum(axes)) / count
        centred = wide - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
                running_var.mul_(1 - momentum).add_(variance * count / (count - 1).clamp_min(1), alpha=momentum)
        out = centred * (variance + eps).rsqrt().view(shape)
        if weight is not None:
            out = out * weight.view(shape)
        if bias is not None:
            out = out + bias.view(shape)
        result: Tensor = out.to(x.dtype)
        return result

    F.batch_norm = synced  # type: ignore[assignment]
    try:
        yield
    finally:
        F.batch_norm = plain  # type: ignore[assignment]
