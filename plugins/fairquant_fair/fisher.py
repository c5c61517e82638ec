"""Per-sample Fisher importance without ever forming a per-sample gradient where that is the dearer way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits import untouched
from fairquant.roles import Batch, GroupImportance, Layer

STRETCH = 1 << 19  # unfolded inputs handled at a time


@dataclass(frozen=True)
class Fisher:
    """I_g(u) = mean over images i of g of sum over the unit's weights of (dl_i/dW)^2, the empirical Fisher diagonal.

    One forward pass and one backward pass to the layers' outputs serve all groups: with a_i [n, T] the inputs that a
    layer saw for image i (T positions) and d_i [out, T] the loss's derivative at its outputs, the gradient is
    d_i a_i^T, and the squared norm of its row o is d_i[o] (a_i^T a_i) d_i[o]^T; per layer the cheaper form is taken.
    Modules that share a weight, and modules called more than once, count as one weight with more positions. A weight
    that is used without its module being called (attention's output projection in torch) is differentiated image by
    image.
    """

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        groups = len(group_names)
        totals = {layer.name: layer.weight.new_zeros((groups, layer.rows)) for layer in layers}
        seen = torch.zeros(groups)
        with untouched(model):
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            for batch in batches:
                for layer, norms in zip(layers, _row_norms(model, batch, layers), strict=True):
                    totals[layer.name].index_add_(0, batch.groups, norms)
                seen += torch.bincount(batch.groups.cpu(), minlength=groups)
        count = seen.clamp_min(1)[:, None]
        scores = {
            layer.name: layer.per_unit(totals[layer.name] / count.to(totals[layer.name].device)) for layer in layers
        }
        return GroupImportance(scores, group_names)


def _row_norms(model: nn.Module, batch: Batch, layers: tuple[Layer, ...]) -> list[Tensor]:
    """Squared norm of each image's gradient, per output channel: [B, out] for each layer."""
    calls: list[list[tuple[nn.Module, Tensor, Tensor]]] = [[] for _ in layers]
    hooks = [
        module.register_forward_hook(_recorder(found))
        for layer, found in zip(layers, calls, strict=True)
        for module in layer.modules
    ]
    try:
        images = batch.images.detach().requires_grad_(True)
        loss = F.cross_entropy(model(images), batch.labels, reduction="sum")
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [output for found in calls for _, _, output in found]
    derivatives = iter(torch.autograd.grad(loss, outputs, allow_unused=True))
    size = len(batch.labels)
    norms = []
    with torch.no_grad():
        for layer, found in zip(layers, calls, strict=True):
            seen = [
                (module, *_batch_first(module, inputs, derivative, size))
                for module, inputs, output in found
                if (derivative := next(derivatives)) is not None
            ]
            norms.append(_by_stretches(seen, size) if seen else _image_by_image(model, batch, layer))
    return norms


@torch.enable_grad()
def _image_by_image(model: nn.Module, batch: Batch, layer: Layer) -> Tensor:
    """The slow way, for a weight whose module is never called itself; zeros where it is not used at all."""
    weight, rows = layer.weight, []
    weight.requires_grad_(True)
    for row in range(len(batch.labels)):
        loss = F.cross_entropy(model(batch.images[row : row + 1]), batch.labels[row : row + 1])
        gradient = torch.autograd.grad(loss, weight, allow_unused=True)[0] if loss.requires_grad else None
        rows.append(weight.new_zeros(layer.rows) if gradient is None else gradient.flatten(1).square().sum(1))
    weight.requires_grad_(False)
    return torch.stack(rows)


def _recorder(found: list[tuple[nn.Module, Tensor, Tensor]]) -> Callable[[nn.Module, Any, Tensor], None]:
    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.append((module, inputs[0].detach(), output))

    return record


def _batch_first(module: nn.Module, inputs: Tensor, slopes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A Linear sees [B, ..., n]; where the sequence comes first, its two first axes are exchanged."""
    if isinstance(module, nn.Linear) and inputs.dim() > 2 and inputs.shape[0] != size and inputs.shape[1] == size:
        return inputs.transpose(0, 1), slopes.transpose(0, 1)
    return inputs, slopes


def _by_stretches(calls: list[tuple[nn.Module, Tensor, Tensor]], size: int) -> Tensor:
    """Squared row norms [B, out], a few images at a time so that their unfolded inputs stay in the processor's cache."""
    module, _, slopes = calls[0]
    weight = module.weight
    assert isinstance(weight, Tensor)
    per_image = weight[0].numel() * max(slopes[0].numel() // weight.shape[0], 1)
    step = max(1, STRETCH // per_image) if slopes.device.type == "cpu" else size
    found = []
    for start in range(0, size, step):
        images = slice(start, start + step)
        parts = [_positions(module, inputs[images], slopes[images]) for module, inputs, slopes in calls]
        inputs, outputs = zip(*parts, strict=True)
        one_call = len(parts) == 1
        found.append(
            _squared_rows(
                inputs[0] if one_call else torch.cat(inputs, -1), outputs[0] if one_call else torch.cat(outputs, -1)
            )
        )
    return torch.cat(found)


def _positions(module: nn.Module, seen: Tensor, derivative: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs [B, groups, n, T] and output derivatives [B, groups, out/groups, T] of one call."""
    batch = len(seen)
    if isinstance(module, nn.Conv2d):
        padding = module._reversed_padding_repeated_twice
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        if any(padding):
            seen = F.pad(seen, padding, mode=mode)
        kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
        columns = F.unfold(seen, kernel, dilation=dilation, stride=stride)  # type: ignore[arg-type]
        positions = columns.shape[-1]
        return columns.view(batch, module.groups, -1, positions), derivative.reshape(
            batch, module.groups, -1, positions
        )
    inputs = seen.reshape(batch, 1, -1, seen.shape[-1]).transpose(2, 3)
    return inputs, derivative.reshape(batch, 1, -1, derivative.shape[-1]).transpose(2, 3)


def _squared_rows(inputs: Tensor, slopes: Tensor) -> Tensor:
    """inputs [B, g, n, T], slopes [B, g, m, T] -> [B, g*m]: squared row norms of slopes @ inputs^T."""
    batch, groups, columns, positions = inputs.shape
    rows = slopes.shape[2]
    if positions == 1:
        squared = slopes.square().squeeze(-1) * inputs.square().sum((2, 3))[..., None]
    elif positions * (columns + rows) < columns * rows:
        gram = inputs.transpose(2, 3) @ inputs
        squared = ((slopes @ gram) * slopes).sum(-1)
    else:
        squared = (slopes @ inputs.transpose(2, 3)).square_().sum(-1)
    return squared.reshape(batch, groups * rows)
