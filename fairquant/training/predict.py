"""Logits of every image of a split."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.utils import parametrize

from fairquant.data.batching import batches
from fairquant.data.ranks import gather_objects, rank_slice, world_size
from fairquant.errors import NotFinite
from fairquant.roles import Predictions, Split
from fairquant.training.model import Model


@torch.inference_mode()
def predict(model: Model, split: Split, batch_size: int = 64) -> Predictions:
    """Logits [N, C] of a split, in float32 and evaluation mode. Quantized weights are computed once. Raises NotFinite where some are
    NaN or infinite."""
    network = model.network
    training = network.training
    network.eval()
    try:
        with parametrize.cached():
            own = split if world_size() == 1 else split.subset(np.arange(len(split))[rank_slice(len(split))])
            stream = batches(own, batch_size, model.normalization, model.device)
            logits = [network(batch.images).float().cpu() for batch in stream]
    finally:
        network.train(training)
    gathered = [each for parts in gather_objects(logits) for each in parts]
    values = torch.cat(gathered).numpy() if gathered else np.zeros((0, len(model.class_names)), np.float32)
    if len(bad := np.flatnonzero(~np.isfinite(values).all(1))):
        raise NotFinite(
            f"the model's outputs for {len(bad)} of {len(values)} images are NaN or infinite, first for {split.ids[bad[0]]}"
        )
    return Predictions(
        logits=values,
        labels=split.labels, groups=split.groups, group_names=model.group_names, class_names=model.class_names,
        ids=split.ids,
    )  # fmt: skip
