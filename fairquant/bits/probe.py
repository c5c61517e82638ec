"""Measure the loss of each group under a plan, without changing the network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits.layers import untouched
from fairquant.files import write_atomically
from fairquant.roles import Batch, Layer, Quantizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """logits [N, C] of N images, their labels [N] and groups [N]; on the CPU."""

    logits: Tensor
    labels: Tensor
    groups: Tensor


@dataclass(frozen=True, kw_only=True)
class PlanProbe:
    """What the network gives under a plan, over fixed batches.

    Quantized rows are cached, so that plans that differ in few units cost little more than a forward pass. errors: what is added
    to the weight of a layer, by its name, at a width, where that is not what the quantizer's nearest points make of it.
    """

    model: nn.Module
    layers: tuple[Layer, ...]
    quantizer: Quantizer
    batches: Callable[[], Iterable[Batch]]
    errors: Callable[[str, int], Tensor] | None = None
    _rows: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def outputs(self, bits: Tensor) -> Outputs:
        """At bits [U]; -1: full precision."""
        originals = [layer.weight.detach().clone() for layer in self.layers]
        with untouched(self.model), torch.no_grad():
            try:
                parts = torch.split(bits.cpu().to(torch.int64), [layer.units for layer in self.layers])
                for number, (layer, layer_bits) in enumerate(zip(self.layers, parts, strict=True)):
                    layer.weight.copy_(self._quantized(number, layer, layer_bits, originals[number]))
                found = [
                    (self.model(batch.images).float().cpu(), batch.labels.cpu(), batch.groups.cpu())
                    for batch in self.batches()
                ]
            finally:
                for layer, weight in zip(self.layers, originals, strict=True):
                    layer.weight.copy_(weight)
        logits, labels, groups = (torch.cat(column) for column in zip(*found, strict=True))
        return Outputs(logits=logits, labels=labels, groups=groups)

    def _quantized(self, number: int, layer: Layer, bits: Tensor, weight: Tensor) -> Tensor:
        out = weight.flatten(1).clone()
        rows = bits.expand(layer.rows) if layer.unit == "tensor" else bits
        for width in torch.unique(bits).tolist():
            if width < 0:
                continue
            if (number, width) not in self._rows:
                self._rows[number, width] = self._at(layer, width, weight).flatten(1)
            chosen = (rows == width).to(weight.device)
            out[chosen] = self._rows[number, width][chosen]
        return out.view_as(weight)

    def _at(self, layer: Layer, width: int, weight: Tensor) -> Tensor:
        """A layer's weight, [out, ...], with one width everywhere."""
        if self.errors is not None:
            return weight + self.errors(layer.name, width).to(weight)
        built = self.quantizer.build(weight, torch.full((layer.units,), width), (width,))
        quantized: Tensor = built.to(weight.device).eval()(weight)
        return quantized


@dataclass(frozen=True, kw_only=True)
class LossProbe(PlanProbe):
    """Mean loss of each of G groups [G] at bits [U], over fixed calibration batches."""

    groups: int

    def __call__(self, bits: Tensor) -> Tensor:
        """bits [U] -> [G], NaN for a group without images."""
        found = self.outputs(bits)
        losses = F.cross_entropy(found.logits, found.labels, reduction="none")
        return group_means(losses, found.groups, self.groups)


def group_means(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Values of images [N] and their groups [N] -> mean of each of `count` groups, float64; NaN for a group without images."""
    sums, counts = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    sums.index_add_(0, groups, values.double())
    counts.index_add_(0, groups, torch.ones(len(groups), dtype=torch.float64))
    return torch.where(counts > 0, sums / counts.clamp_min(1), torch.nan)


@dataclass(frozen=True)
class CachedProbe:
    """A probe whose results are cached in `folder`, for the next budget and the next method that needs the same.

    about: what the results depend on besides the weights and the images, such as the quantizer's options.
    """

    probe: LossProbe
    folder: Path
    about: str

    def __call__(self, bits: Tensor) -> Tensor:
        """bits [U] -> group losses [G], measured at most once."""
        plan = hashlib.sha256(bits.cpu().to(torch.int8).numpy().tobytes()).hexdigest()[:32]
        if plan not in self._answers:
            self._answers[plan] = self.probe(bits).tolist()
        return torch.tensor(self._answers[plan], dtype=torch.float64)

    def save(self) -> None:
        """Write the results, merged with what others wrote in the meantime."""
        if "_answers" in self.__dict__:
            answers = json.dumps(self._read() | self._answers)
            content = {"answers": answers, "checksum": self._checksum(answers)}
            write_atomically(self._file, json.dumps(content).encode())

    def _checksum(self, answers: str) -> str:
        """Of the results and of what they are for."""
        return hashlib.sha256(f"{self._file.stem} {answers}".encode()).hexdigest()

    @cached_property
    def _file(self) -> Path:
        total = hashlib.sha256(self.about.encode())
        for name, value in self.probe.model.state_dict().items():
            total.update(name.encode())
            total.update(value.detach().cpu().numpy().tobytes())
        for batch in self.probe.batches():
            for tensor in (batch.images, batch.labels, batch.groups):
                total.update(tensor.cpu().numpy().tobytes())
        return self.folder / f"{total.hexdigest()[:32]}.json"

    @cached_property
    def _answers(self) -> dict[str, list[float]]:
        return self._read()

    def _read(self) -> dict[str, list[float]]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            stored = str(content["answers"])
            if self._checksum(stored) != content["checksum"]:
                return {}
            answers: dict[str, list[float]] = json.loads(stored)
        except (OSError, ValueError, LookupError, TypeError):  # none yet, or damaged: measured again
            return {}
        return answers
