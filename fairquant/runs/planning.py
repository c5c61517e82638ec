"""From a trained network to quantizers on it: importance per group, the cost of a bit, a plan within the budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from fairquant.artifact.save import artifact_content
from fairquant.bits import Attachment, attach, plan_of
from fairquant.bits.activations import quantize_inputs
from fairquant.bits.costs import CostModel, Operations, latency_cost_model
from fairquant.bits.fallback import Comparison, compare, uniform_bits
from fairquant.bits.layers import pinned_bits
from fairquant.bits.probe import CachedProbe, LossProbe, PlanProbe
from fairquant.bits.problem import BitChoices, Budget
from fairquant.bits.unchanged import unchanged
from fairquant.data.ranks import is_leader
from fairquant.errors import UserError
from fairquant.recipe.latency import read_table
from fairquant.recipe.schema import Quantization, Recipe
from fairquant.roles import (
    Allocation,
    AllocationProblem,
    BitPlan,
    Layer,
    Rounded,
    Splits,
)
from fairquant.rounding.checkpoint import RoundingCheckpoint
from fairquant.rounding.stage import RoundedNetwork, Rounder, share_of_rank
from fairquant.runs.calibration import CalibrationImages
from fairquant.runs.plugin_laws import allocated
from fairquant.runs.sensitivity import Measured, Sensitivity, WidthErrors
from fairquant.runs.source import source_digest
from fairquant.runs.spending import Spending, Spent
from fairquant.training.model import Model


@dataclass(frozen=True, kw_only=True)
class Allocated:
    """A plan within the budget, and how it was made. scores [U]: importance per weight of every unit; problem: what the
    allocator solved; comparison: with uniform bits, where there was one."""

    allocation: Allocation
    plan: BitPlan
    budget: Budget
    scores: Tensor
    problem: AllocationProblem
    comparison: Comparison | None = None


@dataclass(frozen=True, kw_only=True)
class Planning:
    """What a run does between its full-precision model and its training. cache_dir: for losses of plans that were
    measured, shared by the runs of the same versions. known: what each width does, where that is not to be found from the weights;
    adjust: called with the problem before it is solved."""

    recipe: Recipe
    quantization: Quantization
    splits: Splits
    model: Model
    layers: tuple[Layer, ...]
    cache_dir: Path
    known: WidthErrors | None = None
    adjust: Callable[[AllocationProblem], AllocationProblem] = lambda problem: problem

    @property
    def calibration(self) -> CalibrationImages:
        return CalibrationImages(recipe=self.recipe, splits=self.splits, model=self.model)

    @property
    def sensitivity(self) -> Sensitivity:
        return Sensitivity(
            quantization=self.quantization, calibration=self.calibration, layers=self.layers, choices=self.choices,
            known=self.known,
        )  # fmt: skip

    @property
    def choices(self) -> BitChoices:
        settings = self.recipe.quantize
        return BitChoices(settings.choices, pinned_bits(self.layers, settings.pin))

    def start_activations(self) -> dict[str, int]:
        """Few bits for the layers' inputs where the recipe asks for them; layer -> bits. Layers that are not in it keep their
        inputs in float32."""
        wanted = self.recipe.activations
        if wanted.bits is None:
            return {}
        return quantize_inputs(self.model.network, self.layers, self.calibration.batches(), wanted.bits, wanted.first)

    def allocate(self, measured: Measured, cost_model: CostModel | None, metadata: Mapping[str, object]) -> Allocated:
        """Reduce over groups and spend the budget.

        cost_model: a budget that is not of bits; metadata: the file's, whose bytes a budget of bytes counts.
        """
        most = self.recipe.budget.average_bits or 8.0 if cost_model is None else cost_model.average_bits(self.layers)
        problem, errors = self.sensitivity.problem(measured, Budget(most, cost_model))
        probe = self._probe()
        spending = Spending(
            problem=replace(self.adjust(problem), probe=probe), layers=self.layers, cost_model=cost_model,
            most_bytes=self.recipe.budget.bytes, limit=self.recipe.budget.average_bits,
            file_bytes=partial(self._file_bytes, metadata),
        )  # fmt: skip
        found, comparison = spending.spend(self._solve), None
        if self.quantization.importance is not None and self.recipe.quantize.fallback is not None:
            found, comparison = self._or_uniform(found, spending, errors)
        if is_leader():
            probe.save()
        return Allocated(
            allocation=found.allocation, plan=plan_of(self.layers, found.allocation.bits), scores=problem.scores, problem=problem,
            budget=Budget(found.average_bits, cost_model), comparison=comparison,
        )  # fmt: skip

    def _solve(self, problem: AllocationProblem) -> Allocation:
        """What the recipe's allocator makes of a problem."""
        allocator = self.quantization.allocator
        with unchanged(problem, f"allocator {allocator.name!r}"):
            found = allocator.value.allocate(problem)
        return allocated(found, problem, allocator.name)

    def _or_uniform(
        self, found: Spent, spending: Spending, errors: Mapping[str, Tensor] | None
    ) -> tuple[Spent, Comparison | None]:
        """The plan, or uniform bits that cost no more where they are better; and the comparison, where there are such bits at
        all. errors: layer -> what each width does to its weight [K, ...], where that is known already."""
        try:
            uniform = spending.at_most(found).spend(lambda problem: Allocation(uniform_bits(problem)))
        except UserError:
            return found, None
        columns = self.choices.columns
        known = None if errors is None else lambda name, width: errors[name][columns.index(width)]
        probe = PlanProbe(
            model=self.model.network, layers=self.layers, quantizer=self.quantization.quantizer.value,
            batches=self.calibration.stream(self.calibration.unseen()), errors=known,
        )  # fmt: skip
        comparison = compare(found.allocation, uniform.allocation, probe, self.calibration.has_unseen)
        return (uniform if comparison.fallback else found), comparison

    def attach(self, allocated: Allocated, rounded: RoundedNetwork | None) -> Attachment:
        """Put quantizers with the plan's bits on the weights as they are now, with the grids of those that were rounded."""
        return attach(
            self.layers, self.quantization.quantizer.value, allocated.plan, self.choices, allocated.budget, allocated.scores,
            None if rounded is None else rounded.weights,
        )  # fmt: skip

    def round(
        self, plan: BitPlan, checkpoint: RoundingCheckpoint, on_layer: Callable[[int, int], None]
    ) -> RoundedNetwork:
        """Round every layer, in place. Resumes where the checkpoint has some layers."""
        component = self.quantization.rounding
        assert component is not None
        known = checkpoint.load()
        done = 0

        def keep(name: str, rounded: Rounded) -> None:
            nonlocal done
            done += 1
            checkpoint.add(name, rounded)
            on_layer(done, len(self.layers))

        rounder = Rounder(
            network=self.model.network, layers=self.layers, quantizer=self.quantization.quantizer.value, plan=plan,
            choices=self.choices.free, rounding=component.value, group_names=self.splits.group_names, name=component.name,
            known=known, on_layer=keep, blocks=checkpoint.blocks,
        )  # fmt: skip
        batches = list(self.calibration.batches())
        found = rounder.round(share_of_rank(batches))
        checkpoint.save()
        return RoundedNetwork(
            layers=found, images=sum(len(batch.labels) for batch in batches), blocks=rounder.blocks
        )  # fmt: skip

    def cost_model(self, operations: Operations, input_bits: Mapping[str, int]) -> CostModel | None:
        """The budget where it is not of bits or bytes. input_bits: layer -> bits of its input."""
        budget = self.recipe.budget
        if budget.bit_operations is not None:
            return operations.cost_model(budget.bit_operations, input_bits)
        if budget.milliseconds is not None and budget.latency_table is not None:
            return latency_cost_model(read_table(budget.latency_table), budget.milliseconds, self.layers)
        return None

    def _probe(self) -> CachedProbe:
        """For allocators that measure: the losses of a plan on a few calibration images. Built on first use."""
        model, quantizer, groups = self.model, self.quantization.quantizer, len(self.splits.group_names)
        probe = LossProbe(
            model=model.network, layers=self.layers, quantizer=quantizer.value, groups=groups,
            batches=self.calibration.stream(self.calibration.for_probes()),
        )  # fmt: skip
        source = source_digest(type(quantizer.value).__module__)
        about = [quantizer.to_dict(), source, str(model.network), [layer.name for layer in self.layers], groups]
        return CachedProbe(probe, self.cache_dir, json.dumps(about))

    def _file_bytes(self, metadata: Mapping[str, object], plan: BitPlan) -> int:
        """An upper bound of the file's size with this plan, everything in it counted."""
        quantizer, choices = self.quantization.quantizer.value, self.recipe.quantize.choices
        weights = {}
        for layer in self.layers:
            weight = layer.weight.detach()
            weights[layer.name] = quantizer.build(weight, plan.bits[layer.name], choices).encode(weight)
        audit_text = 200 + sum(len(each.label) + 48 for each in self.recipe.metrics)  # three numbers each
        audit_text += 0 if self.recipe.operating_point is None else 300
        padding = 9 * len(self.layers)  # a byte a width of each layer
        return len(artifact_content(self.model.network, self.layers, weights, metadata)) + audit_text + padding
