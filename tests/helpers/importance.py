"""Importance computed image by image, in float64, and models whose images are hard to tell apart."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fairquant.roles import Batch

GROUPS = ("a", "b", "c")


def data(count: int = 14, seed: int = 0, groups: int = 3) -> Batch:
    """Images of noise, float64, of three classes."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=draw, dtype=torch.float64)
    return Batch(images, torch.randint(3, (count,), generator=draw), torch.randint(groups, (count,), generator=draw))


def cut(batch: Batch, *sizes: int) -> list[Batch]:
    parts = zip(batch.images.split(sizes), batch.labels.split(sizes), batch.groups.split(sizes), strict=True)
    return [Batch(*tensor) for tensor in parts]


def gradients_of_images(model, batch, layer):
    """The weight's gradient of one image at a time by autograd, float64: one tensor [N_g, ...] for each group."""
    weight = layer.weight
    weight.requires_grad_(True)
    gradients = []
    for group in range(3):
        rows = torch.where(batch.groups == group)[0]
        losses = [F.cross_entropy(model(batch.images[row : row + 1]), batch.labels[row : row + 1]) for row in rows]
        gradients.append(torch.stack([torch.autograd.grad(loss, weight)[0] for loss in losses]))
    return gradients


def brute_force(model, batch, layers, kind):
    model = model.eval()
    scores_by_layer = {}
    for layer in layers:
        rows = []
        for gradients in gradients_of_images(model, batch, layer):
            mean = gradients.mean(0)
            value = {
                "fisher": gradients.square().mean(0),
                "gradient": mean.abs(),
                "grape": (mean * layer.weight.detach()).square(),
            }[kind]
            rows.append(value.flatten(1).sum(1))
        stacked = torch.stack(rows)
        scores_by_layer[layer.name] = stacked.sum(1, keepdim=True) if layer.unit == "tensor" else stacked
    return scores_by_layer


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, (3, 2), padding=(1, 0)), nn.ReLU(inplace=True), nn.Conv2d(5, 6, 3, stride=2), nn.Tanh(),
        nn.Conv2d(6, 24, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(24, 32, (1, 3), padding=(0, 1), groups=2),
        nn.Conv2d(32, 8, 1), nn.Conv2d(8, 8, 2, dilation=2), nn.Flatten(), nn.Linear(8, 3),
    ).double()  # fmt: skip


class Windows(nn.Module):
    """Windows as images of their own, image by image or window by window, and a sequence that comes first."""

    def __init__(self, image_major: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.image_major = image_major
        self.inside, self.along, self.head = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, images):
        parts = images.reshape(len(images), 2, 16, 6)  # two windows of 16 positions
        if not self.image_major:
            parts = parts.transpose(0, 1)
        seen = torch.tanh(self.inside(parts.reshape(-1, 16, 6))).reshape(*parts.shape[:2], 16, 5)
        if not self.image_major:
            seen = seen.transpose(0, 1)
        sequence = seen.flatten(1, 2).transpose(0, 1)  # [positions, images, 5]
        return self.head(torch.tanh(self.along(sequence)).mean(0))


def some_errors(layers, widths=3):
    draw = torch.Generator().manual_seed(5)
    return {
        layer.name: torch.randn(widths, *layer.weight.shape, generator=draw, dtype=torch.float64) for layer in layers
    }


def brute_force_errors(model, batch, layers, errors):
    """The gradients' products with the errors of each width, squared, averaged over a group's images."""
    model = model.eval()
    errors_by_layer = {}
    for layer in layers:
        rows = []
        for gradients in gradients_of_images(model, batch, layer):
            products = (gradients[:, None] * errors[layer.name]).flatten(3).sum(3)  # [N_g, K, out]
            whole = products.sum(2, keepdim=True) if layer.unit == "tensor" else products
            rows.append(whole.square().mean(0).T)
        errors_by_layer[layer.name] = torch.stack(rows)
    return errors_by_layer


class Tiny(nn.Module):
    """Two small linear layers: its whole Hessian fits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(12, 3, bias=False), nn.Linear(3, 3)

    def forward(self, images):
        return self.two(torch.tanh(self.one(images.flatten(1)[:, :12])))
