"""The points of a layer's quantization grid, of any quantizer: uniform, with a dead zone, or a codebook."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fairquant.roles.quantizer import QuantizedWeight

#: Columns from which on a grid with equal distances is divided by them, in place of a search.
FEW = 16


@dataclass(frozen=True, eq=False)
class Levels:
    """grid: the layer as it is stored; unit [R, L]: the points of each row in units of its scale, ascending; those that a row of few
    bits does not have repeat its last one."""

    grid: QuantizedWeight
    unit: Tensor

    @cached_property
    def points(self) -> Tensor:
        """[R, L], in the units of the weight."""
        return self.unit * self.grid.scale.to(self.unit)[:, None]

    def nearest(self, weight: Tensor) -> Tensor:
        """Numbers [R, n] of the points nearest to a weight [R, n]; of two that are as near the lower one."""
        last = self.last[:, None]
        if self._spacing is None or weight.shape[1] < FEW:
            return torch.minimum(torch.searchsorted(self._borders, weight.contiguous()), last)
        places = (weight - self.points[:, :1]) / self._spacing[:, None]
        return torch.minimum((places - 0.5).ceil_().clamp_(min=0).long(), last)

    @cached_property
    def _spacing(self) -> Tensor | None:
        """Between neighbouring points of a row [R], infinite where it has only one, or a scale of 0; None for grids whose points are
        not everywhere as far from each other."""
        if self.grid.codebook is not None or self.grid.shift is not None:
            return None
        spacing = self.points[:, 1] - self.points[:, 0] if self.points.shape[1] > 1 else self.points[:, 0]
        return torch.where((self.last > 0) & (spacing > 0), spacing, torch.inf)

    @cached_property
    def _borders(self) -> Tensor:
        """[R, L - 1]: where the nearest point changes."""
        return ((self.points[:, 1:] + self.points[:, :-1]) / 2).contiguous()

    def cells(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of what is rounded to the points `numbers` [R, n], below and above; infinite beyond the grid's ends."""
        ends = torch.nn.functional.pad(self._borders, (1, 1), value=torch.inf)
        ends[:, 0] = -torch.inf
        above = torch.where(numbers >= self.last[:, None], torch.inf, ends.gather(1, numbers + 1))
        return ends.gather(1, numbers), above

    @cached_property
    def last(self) -> Tensor:
        """[R]: the number of each row's largest point."""
        bits, codebook = self.grid.bits, self.grid.codebook is not None
        points = torch.where(bits >= 2, 2 ** bits.clamp_min(2) - (0 if codebook else 1), bits + 1)
        return points.to(self.unit.device) - 1

    def values(self, numbers: Tensor) -> Tensor:
        """Numbers [R, n] -> weights [R, n]."""
        return self.points.gather(1, numbers)

    def numbers(self) -> Tensor:
        """[R, n]: the points of the grid's own codes."""
        codes, bits = self.grid.codes.long(), self.grid.bits[:, None]
        return torch.where(bits == 1, (codes + 1) // 2, codes + self._zero()[:, None])

    def stored(self, numbers: Tensor) -> QuantizedWeight:
        """The layer with the points that `numbers` [R, n] name."""
        numbers = numbers.to(self.grid.codes.device)
        codes = torch.where(self.grid.bits[:, None] == 1, 2 * numbers - 1, numbers - self._zero()[:, None])
        codes = torch.where(self.grid.bits[:, None] == 0, 0, codes)
        return replace(self.grid, codes=codes.to(torch.int8))

    def scaled(self, scale: Tensor) -> Levels:
        """The same grid with other scales [R]; the shifts change with them."""
        old, scale, shift = self.grid.scale, scale.to(self.grid.scale), self.grid.shift
        if shift is not None:
            shift = shift * torch.where(old > 0, scale / old.clamp_min(1e-30), 1.0)
        return Levels(replace(self.grid, scale=scale, shift=shift), self.unit)

    def rows(self, chosen: slice) -> Levels:
        """The grid of consecutive rows."""
        grid = self.grid
        part = replace(
            grid, codes=grid.codes[chosen], bits=grid.bits[chosen], scale=grid.scale[chosen],
            shift=None if grid.shift is None else grid.shift[chosen], shape=tuple(grid.codes[chosen].shape),
        )  # fmt: skip
        return Levels(part, self.unit[chosen])

    def _zero(self) -> Tensor:
        """[R]: what is subtracted from a point's number to get its code, with two bits and more."""
        bits = self.grid.bits
        half = 2 ** (bits - 1).clamp_min(0)
        return torch.where(bits >= 2, half if self.grid.codebook is not None else half - 1, 0)


def levels_of(grid: QuantizedWeight, dtype: torch.dtype = torch.float32) -> Levels:
    """The points of a stored layer's grid."""
    bits, most = grid.bits, int(grid.bits.max()) if len(grid.bits) else 0
    count = max(1, 2**most)
    number = torch.arange(count, device=bits.device).expand(len(bits), -1)
    if grid.codebook is not None:
        own = grid.codebook[bits][:, :count].to(dtype)
        unit = torch.where(bits[:, None] == 0, 0.0, own)
        last = torch.where(bits >= 1, 2**bits, 1) - 1
    else:
        half = torch.where(bits >= 2, 2 ** (bits - 1).clamp_min(0) - 1, 0)
        unit = torch.where(bits[:, None] == 1, 2 * number - 1, number - half[:, None]).to(dtype)
        unit = torch.where(bits[:, None] == 0, 0.0, unit)
        last = torch.where(bits >= 2, 2 * half, bits.clamp_max(1))
    unit = unit.gather(1, torch.minimum(number, last[:, None]))
    if grid.shift is not None:
        unit = unit + unit.sign() * (grid.shift.to(unit) / grid.scale.to(unit).clamp_min(1e-30))[:, None]
    return Levels(grid, unit)
