"""Weight averaging: the exponential moving average of the weights over the steps (Polyak & Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fairquant.training.callbacks import Callback


class WeightAverage(Callback):
    """Every floating-point parameter and buffer in the mean: a <- d a + (1 - d) w, where d = min(decay, (1 + t) / (10 + t)) after
    t steps, so that the first steps are soon forgotten. The average is of the weights before they are quantized."""

    steps: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.live = [each for each in (*network.parameters(), *network.buffers()) if each.is_floating_point()]
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for number, tensor in enumerate(self.live):
            self.register_buffer(f"average{number}", tensor.detach().clone())

    @property
    def averages(self) -> list[Tensor]:
        return [self.get_buffer(f"average{number}") for number in range(len(self.live))]

    @torch.no_grad()
    def after_step(self) -> None:
        self.steps += 1
        done = int(self.steps)
        fraction = 1 - min(self.decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(self.averages, [each.detach() for each in self.live], fraction)

    @torch.no_grad()
    def restart(self) -> None:
        self.steps.zero_()
        for average, tensor in zip(self.averages, self.live, strict=True):
            average.copy_(tensor)

    @torch.no_grad()
    def swap(self) -> None:
        """The averages become the network's weights, and these the averages."""
        for average, tensor in zip(self.averages, self.live, strict=True):
            kept = tensor.detach().clone()
            tensor.copy_(average)
            average.copy_(kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the network has the averaged weights."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
