"""The results of a run, before any of it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from fairquant.audit.evaluate import Audit
from fairquant.audit.operating import Decisions
from fairquant.bits.costs import CostModel, Latency, Operations
from fairquant.bits.fallback import Comparison
from fairquant.bits.packing import packed_bytes
from fairquant.recipe.events import AcceptReport, ArtifactReport
from fairquant.roles import Allocation, BitPlan, Layer, Predictions, QuantizedWeight, Splits
from fairquant.rounding.stage import RoundedNetwork


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """How the network was quantized.

    layers: those that were quantized; plan: the bits that ship; start: those before training; weights: layer -> what is
    stored of it; input_bits: layer -> bits of its input, where not in float; cost_model: of a budget that is not of bits;
    comparison: of the allocator's plan with uniform bits; rounded: before any training, where the recipe has a rounding.
    """

    layers: tuple[Layer, ...]
    plan: BitPlan
    start: BitPlan
    weights: Mapping[str, QuantizedWeight]
    allocation: Allocation
    operations: Operations
    input_bits: Mapping[str, int]
    cost_model: CostModel | None
    comparison: Comparison | None = None
    rounded: RoundedNetwork | None = None

    @property
    def bops(self) -> tuple[int, int]:
        """Bit operations of one image: as quantized, and in full precision."""
        return self.operations.bops(self.plan, self.input_bits), self.operations.full(self.plan)

    @property
    def milliseconds(self) -> float | None:
        """Latency of the quantized layers by the latency table, where the budget is one of latency."""
        return self.cost_model.of(self.plan) if isinstance(self.cost_model, Latency) else None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all packed codes."""
        return sum(packed_bytes(weight.bits, weight.codes.shape[1]) for weight in self.weights.values())


@dataclass(frozen=True)
class BeforeAfter:
    """Predictions of the full-precision model and of this one on the same images; the former are the latter's reference."""

    before: Predictions
    after: Predictions

    def __post_init__(self) -> None:
        if self.after.reference is None:
            object.__setattr__(self, "after", replace(self.after, reference=self.before))


@dataclass(frozen=True, kw_only=True)
class ValidationResults:
    """What a run has that stopped before the test images were read. artifact_bytes: size that its file would have; plan
    None: full precision."""

    validation: BeforeAfter
    average_bits: float
    artifact_bytes: int
    plan: BitPlan | None


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that a finished run has measured. quantized None: full precision."""

    splits: Splits
    network: nn.Module
    validation: BeforeAfter
    test: BeforeAfter
    audit: Audit
    decisions: Decisions | None
    acceptance: AcceptReport
    artifact: ArtifactReport
    quantized: Quantized | None

    @property
    def average_bits(self) -> float:
        """Bits per quantized weight; 32 in full precision."""
        return 32.0 if self.quantized is None else self.quantized.plan.average

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as they ship."""
        if self.quantized is None:
            return 4 * sum(parameter.numel() for parameter in self.network.parameters())
        return self.quantized.weight_bytes

    @property
    def full_bytes(self) -> int:
        """Size of the same model in float32, in bytes."""
        state = {id(value): value for value in self.network.state_dict(keep_vars=True).values()}
        return sum(value.numel() * value.element_size() for value in state.values())
