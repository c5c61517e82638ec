"""Weights that oscillate between two codes are frozen at the one where they are more often (Nagel et al., arXiv 2203.11086)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fairquant.bits.attach import Attachment
from fairquant.training.callbacks import Callback

#: Of the moving averages over the steps (section 4.1 there).
MOMENTUM = 0.01


class OscillationFreezing(Callback):
    """Freezes a weight once the moving average of its oscillations exceeds the threshold.

    A step is an oscillation of a weight where its code changes into the direction opposite to its last change. A frozen weight
    stays at the code that it had in the mean; its scale may still be learned. Per layer [R, n]: code and direction of the last
    change, moving averages of oscillations and codes, and which weights are frozen.
    """

    def __init__(self, attachment: Attachment, threshold: float) -> None:
        super().__init__()
        self.attachment, self.threshold = attachment, threshold
        for number, codes in enumerate(self._codes()):
            self.register_buffer(f"code{number}", codes)
            self.register_buffer(f"direction{number}", torch.zeros_like(codes))
            self.register_buffer(f"frequency{number}", torch.zeros_like(codes, dtype=torch.float32))
            self.register_buffer(f"mean{number}", codes.float())
            self.register_buffer(f"frozen{number}", torch.zeros_like(codes, dtype=torch.bool))

    @torch.no_grad()
    def _codes(self) -> list[Tensor]:
        """The codes of each layer's weight as it is now, int8 [R, n]."""
        pairs = zip(self.attachment.layers, self.attachment.quantizers, strict=True)
        return [quantizer.encode(layer.weight).codes for layer, quantizer in pairs]

    @torch.no_grad()
    def after_step(self) -> None:
        pairs = zip(self.attachment.layers, self.attachment.quantizers, strict=True)
        for number, (layer, quantizer) in enumerate(pairs):
            stored = quantizer.encode(layer.weight)
            frozen = self._update(number, stored.codes)
            if not bool(frozen.any()):
                continue
            mean = self._of(number, "mean")
            likeliest = torch.where((stored.bits == 1)[:, None], torch.where(mean < 0, -1, 1), mean.round())
            held = replace(stored, codes=torch.where(frozen, likeliest.to(torch.int8), stored.codes)).decode()
            layer.weight.copy_(torch.where(frozen.view_as(layer.weight), held, layer.weight))

    @torch.no_grad()
    def restart(self) -> None:
        for number, codes in enumerate(self._codes()):
            self._of(number, "code").copy_(codes)
            self._of(number, "mean").copy_(codes)
            for kind in ("direction", "frequency", "frozen"):
                self._of(number, kind).zero_()

    def _of(self, number: int, kind: str) -> Tensor:
        return self.get_buffer(f"{kind}{number}")

    def _update(self, number: int, codes: Tensor) -> Tensor:
        """What is remembered of layer `number`, given its codes [R, n] now; which weights are frozen [R, n]."""
        code, direction, frequency, mean, frozen = (
            self._of(number, kind) for kind in ("code", "direction", "frequency", "mean", "frozen")
        )
        change = torch.sign(codes - code)
        oscillated = (change != 0) & (change == -direction)
        frequency.lerp_(oscillated.float(), MOMENTUM)
        mean.copy_(torch.where(frozen, mean, torch.lerp(mean, codes.float(), MOMENTUM)))
        direction.copy_(torch.where(change != 0, change, direction))
        code.copy_(codes)
        return frozen.logical_or_(frequency > self.threshold)
