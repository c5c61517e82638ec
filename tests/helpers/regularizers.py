"""A training step of a few images, for regularizers."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from fairquant.roles import Step


def step(groups=(0, 0, 1, 1, 2, 0), group_count=3, seed=0, **more) -> Step:
    torch.manual_seed(seed)
    size = len(groups)
    logits = torch.randn(size, 4, requires_grad=True)
    labels = torch.randint(4, (size,))
    losses = F.cross_entropy(logits, labels, reduction="none")
    features = logits @ torch.randn(4, 5)
    return Step(
        losses=losses,
        logits=logits,
        labels=labels,
        groups=torch.tensor(groups),
        group_count=group_count,
        features=features,
        teacher=torch.randn(size, 4),
        **more,
    )
