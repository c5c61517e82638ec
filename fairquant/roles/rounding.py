"""Role `rounding`: from a layer's weight, its quantizer's grid and what the layer sees of each group, to codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from fairquant.roles.quantizer import QuantizedWeight

#: "inputs": moments and means; "drift": how the inputs differ from those in full precision; "gradients": positions are weighted
#: by the squared gradient at the layer's output of the loss in full precision, with labels that the network itself gives.
Need = Literal["inputs", "drift", "gradients"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerInputs:
    """What a layer sees of each of G groups: means over the group's calibration images and their positions (tokens, places of a
    convolution), with every layer before it rounded.

    The rows of the weight are S slices of equally many consecutive rows, each with inputs x [n] of its own: the groups of a
    convolution; S = 1 in any other layer. moments [G, S, n, n]: mean of x x^T; means [G, S, n]: of x. drift [G, S, n, n]: mean of
    (x_full - x) x^T, and drift_means [G, S, n]: of x_full - x, with x_full the input in full precision; drift_outputs
    [G, R]: of (w (x_full - x))^2 for each row w of the weight; None where the rounding does not need them. images [G]: number
    of images; a group without any has zeros everywhere.
    """

    moments: Tensor
    means: Tensor
    images: Tensor
    drift: Tensor | None = None
    drift_means: Tensor | None = None
    drift_outputs: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundingProblem:
    """One layer. weight [R, n]: in full precision; grid: the layer as its quantizer stores it, whose bits, scale, shift and
    codebook are the grid of each row and whose codes are those of the nearest points; inputs: None where the layer's products
    could not be observed; has_bias: whether a change of the bias can be added. layer: its name; groups: their names."""

    layer: str
    weight: Tensor
    grid: QuantizedWeight
    groups: tuple[str, ...]
    inputs: LayerInputs | None = None
    has_bias: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounded:
    """weight: what is stored, with the bits of the grid; its scale may be another one. bias [R]: to be added to the layer's
    bias, or None. compensated: whether the choice made use of what the layer sees."""

    weight: QuantizedWeight
    bias: Tensor | None = None
    compensated: bool = False

    def to(self, device: torch.device) -> Rounded:
        """The same on another device."""
        return replace(self, weight=self.weight.to(device), bias=None if self.bias is None else self.bias.to(device))


@runtime_checkable
class Rounding(Protocol):
    """Chooses the codes of a layer's weight, one layer after the other in the order in which the network uses them.

    Laws: bits stay those of the grid, codes fit them, and what is returned is what ships; the choice depends neither on the
    order nor on the names of the groups, and a layer whose every weight lies on the grid stays as it is.

        @dataclass(frozen=True)
        class Down:
            '''Round towards zero.'''
            needs: ClassVar[frozenset[str]] = frozenset()
            def round(self, problem):
                levels = levels_of(problem.grid)                     # fairquant.rounding.levels
                number = levels.nearest(problem.weight)
                further = levels.values(number).abs() > problem.weight.abs()
                number = number - torch.where(further, problem.weight.sign().long(), 0)
                return Rounded(weight=levels.stored(number))
    """

    @property
    def needs(self) -> frozenset[Need]:
        """What is measured of each layer before it is rounded; nothing at all where empty."""
        ...

    def round(self, problem: RoundingProblem) -> Rounded:
        """The codes of one layer."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockProblem:
    """A block whose layers are rounded one by one already, in the network itself; their errors may be balanced within it.

    layers: name -> its problem; rounded: name -> what `round` made of it. groups: B numbers of each of N batches, into group_names.
    targets: each batch's output in full precision, by image [B, F]. run(number, rounded) -> [B, F]: the block's output for a batch,
    with all before it rounded, at weights [R, n] and biases [R] of its layers, in full in `rounded`, layer -> (weight, change of the
    bias or None); gradients reach both. importance [F]: of the output's elements, 1 in the mean, from the loss's squared
    gradient; None where the rounding does not ask for "gradients", and where they could not be observed.
    """

    name: str
    layers: Mapping[str, RoundingProblem]
    rounded: Mapping[str, Rounded]
    groups: Sequence[Tensor]
    group_names: tuple[str, ...]
    targets: Sequence[Tensor]
    run: Callable[[int, Mapping[str, tuple[Tensor, Tensor | None]]], Tensor]
    importance: Tensor | None = None


class CannotLearn(Exception):
    """Raised by `round_block` where a block cannot be learned; the message says why, and its layers stay as they are."""


@runtime_checkable
class RoundsBlocks(Rounding, Protocol):
    """A rounding that looks at the layers of a block once more, together.

    Laws: those of `Rounding`, for every layer that it returns; those that it leaves out stay as they are.
    """

    def round_block(self, problem: BlockProblem) -> Mapping[str, Rounded]:
        """Layer -> what it becomes. CannotLearn where that is impossible."""
        ...


def in_float64(problem: RoundingProblem) -> RoundingProblem:
    """The same problem with weight and inputs in float64, in which systems of equations are solved: on the weight's device, or on
    the CPU where that device has no float64."""
    device = problem.weight.device if problem.weight.device.type != "mps" else torch.device("cpu")

    def moved(value: Tensor) -> Tensor:
        return value.detach().to(device).double()

    inputs = problem.inputs
    if inputs is not None:
        fields = {name: getattr(inputs, name) for name in inputs.__dataclass_fields__}
        inputs = replace(inputs, **{name: moved(value) for name, value in fields.items() if isinstance(value, Tensor)})
    return replace(problem, weight=moved(problem.weight), grid=problem.grid.to(device), inputs=inputs)
