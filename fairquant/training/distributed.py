"""One training on several devices or machines, under torchrun: the same result as one process with the same batches.

Every rank runs the model on its slice of each batch. Logits (and features) are gathered, so that losses and regularizers see
the whole batch and all of its groups; gradients are summed; batch norm takes its statistics over the whole batch. Outside
torchrun everything here does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather, all_reduce
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fairquant.data.ranks import world_size


def gather(values: Tensor, count: int) -> Tensor:
    """Every rank's slice [n, ...] -> all `count` rows [count, ...] in order, differentiable."""
    if world_size() == 1:
        return values
    most = -(-count // world_size())
    padding = values.new_zeros(most - len(values), *values.shape[1:])
    slices: Sequence[Tensor] = all_gather(torch.cat([values, padding]))  # type: ignore[no-untyped-call]
    size, remainder = divmod(count, world_size())
    return torch.cat([each[: size + (number < remainder)] for number, each in enumerate(slices)])


def backward(loss: Tensor, model: nn.Module) -> None:
    """Gradients of a scalar loss [] that every rank computed over the whole batch."""
    (loss / world_size()).backward()  # type: ignore[no-untyped-call]
    if world_size() > 1:
        for parameter in model.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)


def broadcast_state(model: nn.Module) -> None:
    """Rank 0's parameters and buffers on every rank."""
    if world_size() > 1:
        for value in model.state_dict(keep_vars=True).values():
            dist.broadcast(value.detach(), 0)


@contextmanager
def sync_batch_norm() -> Iterator[None]:
    """Inside, batch norm in training mode takes mean and variance over the whole batch, on any device.

    torch's SyncBatchNorm runs on GPUs only and does not replace the batch norms that timm subclasses.
    """
    if world_size() == 1:
        yield
        return
    with _SyncBatchNorm():
        yield


class _SyncBatchNorm(TorchFunctionMode):
    """Intercepts `F.batch_norm` in this thread and block; every other call passes through."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return _synced_batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _synced_batch_norm(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """x [B, C, ...]; the other arguments as in `F.batch_norm`, whose signature this has to have."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    wide = x.float()
    count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
    dist.all_reduce(count)
    mean = _sum_over_ranks(wide.sum(axes)) / count
    centred = wide - mean.view(shape)
    variance = _sum_over_ranks(centred.square().sum(axes)) / count
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


def _sum_over_ranks(values: Tensor) -> Tensor:
    """Differentiable."""
    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return total
