"""Logits of every image of a split."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from fairquant.data.batching import batches
from fairquant.data.transforms import Normalization
from fairquant.roles import Predictions, Split
from fairquant.training.distributed import gather_objects, part, world


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
            own = split if world() == 1 else split.subset(np.arange(len(split))[part(len(split))])
            logits = [model(batch.images).float().cpu() for batch in batches(own, batch_size, normalize, device)]
    finally:
        model.train(training)
    logits = [each for parts in gather_objects(logits) for each in parts]
    stacked = torch.cat(logits).numpy() if logits else np.zeros((0, len(names[1])), np.float32)
    return Predictions(stacked, split.labels, split.groups, names[0], names[1], split.ids)
