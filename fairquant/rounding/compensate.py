"""Codes with the least output error: the columns of a weight one after the other, what each loses made up for by the rest.

The error of a row w of codes q on inputs x with moments H = E[x x^T] is (w - q) H (w - q)^T. Rows do not touch each other, so each
keeps its own bits and scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fairquant.rounding.levels import Levels

#: Columns that are rounded before the others are updated, in one product.
BLOCK = 64


def compensate(target: Tensor, moments: Tensor, levels: Levels, damping: float = 0.01) -> Tensor:
    """GPTQ (Frantar et al., arXiv 2210.17323): numbers [R, n] of the points, for a target [R, n] in full precision.

    moments [n, n]; damping: added to the diagonal, as a fraction of its mean. Columns are rounded in the order of their moments,
    the largest first. Inputs that are always 0 round to the nearest.
    """
    order = torch.argsort(moments.diagonal(), descending=True, stable=True)
    factor = _factor(moments[order][:, order], damping)
    remaining, numbers = target[:, order].clone(), torch.zeros(target.shape, dtype=torch.int64, device=target.device)
    for start in range(0, target.shape[1], BLOCK):
        stop = min(start + BLOCK, target.shape[1])
        errors = torch.empty_like(remaining[:, start:stop])
        for column in range(start, stop):
            own = remaining[:, column : column + 1]
            chosen = levels.nearest(own)
            numbers[:, column : column + 1] = chosen
            error = (own - levels.values(chosen).to(own)) / factor[column, column]
            errors[:, column - start : column - start + 1] = error
            remaining[:, column + 1 : stop] -= error * factor[column, column + 1 : stop]
        remaining[:, stop:] -= errors @ factor[start:stop, stop:]
    return numbers[:, torch.argsort(order)]


def _factor(moments: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped moments [n, n]; more damping where rounding errors make it necessary,
    and 1 for inputs that are always 0."""
    diagonal = moments.diagonal()
    mean, dead = diagonal.abs().mean(), diagonal <= 1e-14 * diagonal.max().clamp_min(1e-300)
    for _ in range(20):
        damped = moments.clone()
        damped.diagonal().add_(damping * mean)
        damped.diagonal()[dead] = 1.0
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed:
                factor: Tensor = upper
                return factor
        damping = max(10 * damping, 1e-6)
    raise ValueError("the second moments of the inputs are not finite")


def descend(target: Tensor, moments: Tensor, levels: Levels, numbers: Tensor, sweeps: int) -> Tensor:
    """Coordinate descent: every column in turn takes the best points given all others, `sweeps` times over (Behdin et al.,
    QuantEase, arXiv 2309.01885). The error never grows. numbers [R, n] -> [R, n].
    """
    order = torch.argsort(moments.diagonal(), descending=True, stable=True)
    moments, numbers = moments[order][:, order], numbers[:, order]
    diagonal = moments.diagonal().clamp_min(1e-12 * (1 + float(moments.diagonal().max())))
    values = levels.values(numbers).to(target)
    gradient = (values - target[:, order]) @ moments
    for _ in range(sweeps):
        before = numbers.clone()
        for start in range(0, target.shape[1], BLOCK):
            block = slice(start, min(start + BLOCK, target.shape[1]))
            old, local = values[:, block].clone(), gradient[:, block].clone()
            for column in range(block.stop - start):
                chosen = levels.nearest(
                    (values[:, start + column] - local[:, column] / diagonal[start + column])[:, None]
                )
                new = levels.values(chosen).to(target)[:, 0]
                local += (new - values[:, start + column])[:, None] * moments[start + column, block]
                values[:, start + column], numbers[:, start + column] = new, chosen[:, 0]
            gradient += (values[:, block] - old) @ moments[block]
        if torch.equal(before, numbers):
            break
    return numbers[:, torch.argsort(order)]


def row_errors(target: Tensor, moments: Tensor, values: Tensor) -> Tensor:
    """(w - q) H (w - q)^T of each row [R]: target, values [R, n], moments [n, n]."""
    error = target - values
    return ((error @ moments) * error).sum(1)


def refit_scale(target: Tensor, moments: Tensor, levels: Levels, numbers: Tensor) -> Levels:
    """The grid with the scales [R] at which these points have the least error; unchanged where that is not above 0."""
    unit = levels.unit.gather(1, numbers).to(target)
    along = unit @ moments
    scale = (along * target).sum(1) / (along * unit).sum(1).clamp_min(1e-30)
    old = levels.grid.scale.to(scale)
    valid = torch.isfinite(scale) & (scale > 0.1 * old) & (scale < 10 * old)
    return levels.scaled(torch.where(valid, scale, old))
