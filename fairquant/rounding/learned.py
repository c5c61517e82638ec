"""Rounding that is learned: weights that are rounded to their grid in the forward pass, with gradients that pass through."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fairquant.roles import Rounded, RoundingProblem
from fairquant.rounding.levels import levels_of


class LearnedLayer(nn.Module):
    """A layer's weight, scales and bias as parameters; starts at what it was rounded to, and gives exactly that at first.

    latent [R, n]: the weight before it is rounded, in steps of its row, so that one learning rate suits every layer; log_scale [R]:
    of the scale, relative to its start; bias [R]: its change, in units of the row's norm, where the layer has a bias. Where a weight
    lies beyond the grid's ends it gets no gradient (straight-through estimator, Bengio et al., arXiv 1308.3432); scales get that of
    learned step size quantization (Esser et al., arXiv 1902.08153).
    """

    def __init__(self, problem: RoundingProblem, rounded: Rounded, towards_weight: float) -> None:
        """towards_weight: how far the latent weight starts from the point that was chosen towards the weight in full precision,
        as a fraction of the way to the border of that point's cell."""
        super().__init__()
        self.levels = levels_of(rounded.weight)
        points = rounded.weight.decode().flatten(1).to(problem.weight)
        self.step = self.levels.grid.scale.to(points).clamp_min(1e-12)[:, None]
        low, high = self.levels.cells(self.levels.numbers().to(points.device))
        reach = self.step / 2  # beyond the grid's ends
        nearby = torch.minimum(
            torch.maximum(problem.weight, low.clamp_min(-reach + points)), high.clamp_max(reach + points)
        )
        self.latent = nn.Parameter((points + towards_weight * (nearby - points)) / self.step)
        self.log_scale = nn.Parameter(torch.zeros_like(self.step[:, 0]))
        self.norm = problem.weight.norm(dim=1).clamp_min(1e-12)
        start = torch.zeros_like(self.norm) if rounded.bias is None else rounded.bias.to(points) / self.norm
        self.bias = nn.Parameter(start) if problem.has_bias else None

    def forward(self) -> tuple[Tensor, Tensor | None]:
        """The weight [R, n] as it would be stored, and the change of the bias [R]."""
        scale, weight = self.log_scale.exp()[:, None] * self.step, self.latent * self.step
        levels = self.levels.scaled(scale.detach()[:, 0])
        number = levels.nearest(weight.detach())
        unit = levels.unit.gather(1, number)
        values = levels.values(number)
        half = scale.detach() / 2
        inside = (weight.detach() <= levels.points[:, -1:] + half) & (weight.detach() >= levels.points[:, :1] - half)
        through = torch.where(inside, weight - weight.detach(), 0.0)
        along = torch.where(inside, unit - weight.detach() / scale.detach(), unit)
        bias = None if self.bias is None else self.bias * self.norm
        return values + through + along * (scale - scale.detach()), bias

    @torch.no_grad()
    def rounded(self) -> Rounded:
        """The layer as it is stored."""
        levels = self.levels.scaled(self.log_scale.exp() * self.step[:, 0])
        bias = None if self.bias is None else self.bias * self.norm
        return Rounded(weight=levels.stored(levels.nearest(self.latent * self.step)), bias=bias, compensated=True)
