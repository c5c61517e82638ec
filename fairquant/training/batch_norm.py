"""Re-estimate batch norm statistics after quantization: the cheapest repair of a post-training plan."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fairquant.errors import UserError
from fairquant.roles import Batch, Split


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Batch]) -> int:
    """Replace running means and variances by averages over the given batches. Returns how many layers have any."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    modes, momenta = [module.training for module in model.modules()], [norm.momentum for norm in norms]
    if not norms:
        return 0
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
        norm.train()
    for batch in batches:
        model(batch.images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return len(norms)


def draw_train_subset(train: Split, images: int, groups: int, seed: int, balanced: bool) -> Split:
    """A fixed draw of training images: as they come, or with replacement so that every group that occurs counts equally."""
    draw = np.random.default_rng([seed, 0xBA7C])
    if not balanced:
        return train.subset(draw.permutation(len(train))[:images].astype(np.int64))
    present = [np.flatnonzero(train.groups == group) for group in range(groups)]
    present = [rows for rows in present if len(rows)]
    fraction = max(images // len(present), 1)
    rows = np.concatenate([draw.choice(rows, fraction, replace=len(rows) < fraction) for rows in present])
    return train.subset(draw.permutation(rows).astype(np.int64))


def check_batch(model: nn.Module, images: int) -> None:
    """UserError where batches of so few images would be normalized over one value."""
    normalized = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if images < 2 and normalized:
        raise UserError(
            f"a batch of {images} image cannot be normalized ({normalized[0]!r} is a batch norm): set batch_size to 2 or more, and "
            "have at least two training images"
        )
