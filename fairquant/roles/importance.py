"""Role `importance`: how much each unit of each layer matters to each group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

UnitKind = Literal["tensor", "channel"]


@dataclass(frozen=True)
class Batch:
    """images [B, 3, H, W] float, labels [B], groups [B] int64, all on the model's device."""

    images: Tensor
    labels: Tensor
    groups: Tensor


def raw_parameter(module: nn.Module, name: str = "weight") -> object:
    """A module's parameter, under the quantizer where one is attached; it need not be a tensor."""
    parametrizations = getattr(module, "parametrizations", None)
    if parametrizations is not None and name in parametrizations:
        return parametrizations[name].original
    return getattr(module, name)


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight that gets quantized: that of a Linear, a convolution, an Embedding, or any other parameter that multiplies.

    names: the module's name, or the parameter's where it is not called `weight`; more than one where modules share it.
    paths: the parameter's name in the state dict for each of `names`; empty: "<name>.weight". A unit is what has one bit
    width: a row of the weight flattened to [out, n], which is an output channel (of a transposed convolution an input
    channel, of an embedding an entry), or the tensor.
    """

    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    unit: UnitKind
    paths: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def weight(self) -> Tensor:
        """The weight itself [out, ...], also while a quantizer is attached."""
        weight = raw_parameter(self.modules[0], self.own_names[0])
        assert isinstance(weight, Tensor)
        return weight

    @property
    def parameters(self) -> tuple[str, ...]:
        """The weight's names in the state dict of the plain model."""
        return self.paths or tuple(f"{name}.weight" for name in self.names)

    @property
    def own_names(self) -> tuple[str, ...]:
        """What each module calls the weight."""
        return tuple(path.rpartition(".")[2] for path in self.parameters)

    @property
    def rows(self) -> int:
        return self.weight.shape[0]

    @property
    def units(self) -> int:
        return 1 if self.unit == "tensor" else self.rows

    @property
    def unit_size(self) -> int:
        """Weights per unit."""
        return self.weight.numel() // self.units

    def per_unit(self, rows: Tensor) -> Tensor:
        """Sums over output channels [..., out] to sums over units [..., U]."""
        return rows.sum(-1, keepdim=True) if self.unit == "tensor" else rows


@dataclass(frozen=True)
class GroupImportance:
    """scores: layer name -> [G, U], summed over the weights of each unit.

    relative: the scores contain the weights' own magnitude already (grape, hawq), so that an allocator weighs
    the relative quantization error with them; otherwise (fisher, gradient) the absolute squared error.
    """

    scores: Mapping[str, Tensor]
    group_names: tuple[str, ...]
    relative: bool = False

    def table(self) -> Tensor:
        """All layers side by side: [G, total units]."""
        return torch.cat(list(self.scores.values()), dim=1)


@runtime_checkable
class Importance(Protocol):
    """Scores every unit for every group.

    Laws: weights, gradients, buffers, mode and random state stay as they were (`fairquant.bits.untouched` sees to
    it); the scores do not depend on how samples are batched. Optional: `group_errors`, see `ErrorImportance`.

        @dataclass(frozen=True)
        class Magnitude:
            def measure(self, model, batches, layers, group_names):
                row = lambda layer: layer.weight.detach().flatten(1).abs().sum(1)
                scores = {l.name: l.per_unit(row(l)).repeat(len(group_names), 1) for l in layers}
                return GroupImportance(scores, tuple(group_names))
    """

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance: ...


@runtime_checkable
class ErrorImportance(Importance, Protocol):
    """An importance that also measures what each width does to each group, in place of importance times squared error.

    errors: layer name -> [K, *weight.shape], Q_b(W) - W for each of K widths, with the quantizer that will be used. Returns
    layer name -> [G, U, K], what allocators call e_{u,g}(b): not negative, and 0 where the error is 0.
    """

    def group_errors(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...],
        errors: Mapping[str, Tensor],
    ) -> Mapping[str, Tensor]:  # fmt: skip
        """errors [K, *weight.shape] -> [G, U, K], each by layer name."""
        ...


@runtime_checkable
class JointImportance(ErrorImportance, Protocol):
    """An `ErrorImportance` that gives scores and errors in one pass over the images."""

    def measure_jointly(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...],
        errors: Mapping[str, Tensor],
    ) -> tuple[GroupImportance, Mapping[str, Tensor]]:  # fmt: skip
        """What `measure` and `group_errors` give."""
        ...
