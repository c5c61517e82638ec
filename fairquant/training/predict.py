"""Logits of every image of a split."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from fairquant.data.batching import batches
from fairquant.data.transforms import Normalization
from fairquant.roles import Predictions, Split


@torch.inference_mode()
def predict(
    model: nn.Module, split: Split, names: tuple[tuple[str, ...], tuple[str, ...]], normalize: Normalization,
    device: torch.device, batch_size: int = 64,
) -> Predictions:  # fmt: skip
    """Evaluate in fp32 and evaluation mode. names: (groups, classes). Quantized weights are computed once."""
    training = model.training
    model.eval()
    try:
        with parametrize.cached():
            logits = [model(batch.images).float().cpu() for batch in batches(split, batch_size, normalize, device)]
    finally:
        model.train(training)
    stacked = torch.cat(logits).numpy() if logits else np.zeros((0, len(names[1])), np.float32)
    return Predictions(stacked, split.labels, split.groups, names[0], names[1], split.ids)
