"""From a trained network to quantizers on it: importance per group, the cost of a bit, a plan within the budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairquant.artifact.save import artifact_content
from fairquant.bits import Attachment, attach, make_problem, plan_of
from fairquant.bits.activations import quantize_inputs
from fairquant.bits.layers import pinned_bits
from fairquant.bits.probe import LossProbe, RememberingProbe
from fairquant.bits.problem import weight_errors, widths, with_measured
from fairquant.bits.spending import Operations, Spending, count_operations, latency_spending, within_size
from fairquant.data.batching import batches, draw_calibration
from fairquant.data.transforms import Normalization
from fairquant.recipe.latency import read_table
from fairquant.recipe.schema import Recipe
from fairquant.roles import (
    Allocation,
    BitPlan,
    ErrorImportance,
    GroupImportance,
    Layer,
    Split,
    Splits,
)
from fairquant.training.distributed import is_leader


@dataclass(frozen=True)
class Planning:
    """What a run does between its full-precision model and its training. kept: the folder for losses of plans that were
    measured, shared by the runs of the same versions."""

    recipe: Recipe
    splits: Splits
    network: nn.Module
    layers: tuple[Layer, ...]
    normalize: Normalization
    device: torch.device
    kept: Path

    def importance(self) -> GroupImportance:
        """Importance of every unit to every group, on calibration images; all ones where the method asks for none."""
        names, recipe = self.splits.group_names, self.recipe
        if recipe.importance is None:
            ones = {layer.name: torch.full((len(names), layer.units), float(layer.unit_size)) for layer in self.layers}
            return GroupImportance(ones, names)
        stream = batches(self.images(), recipe.calibration.batch_size, self.normalize, self.device)
        found: GroupImportance = recipe.importance.value.measure(self.network, stream, self.layers, names)
        return found

    def images(self) -> Split:
        """The dataset's own calibration images, or a draw of training images with the groups alike."""
        count, groups = self.recipe.calibration.images, len(self.splits.group_names)
        return self.splits.calibration or draw_calibration(self.splits.train, count, groups, self.recipe.seed)

    def start_activations(self) -> dict[str, int]:
        """Few bits for the layers' inputs where the recipe wants them; layer -> bits."""
        wanted = self.recipe.activations
        if wanted.bits is None:
            return {}
        stream = batches(self.images(), self.recipe.calibration.batch_size, self.normalize, self.device)
        return quantize_inputs(self.network, self.layers, stream, wanted.bits, wanted.first)

    def operations(self) -> Operations:
        """Multiply-accumulates of one image, by layer."""
        one = next(iter(batches(self.splits.train.subset(np.arange(1)), 1, self.normalize, self.device)))
        return count_operations(self.network, self.layers, one.images)

    def allocate(
        self,
        importance: GroupImportance,
        operations: Operations,
        inputs: Mapping[str, int],
        metadata: Mapping[str, Any],
    ) -> tuple[Attachment, Allocation]:
        """Reduce over groups, spend the budget, put the quantizers on. inputs: layer -> bits of its input; metadata: the
        file's, whose bytes a budget of bytes counts."""
        recipe, layers, budget = self.recipe, self.layers, self.recipe.budget
        assert recipe.allocator is not None
        assert recipe.quantizer is not None
        allocator, quantizer, choices = recipe.allocator.value, recipe.quantizer.value, recipe.quantize.choices
        table = importance.table()
        reduce = recipe.reducer.value.reduce if recipe.reducer is not None else lambda scores, names: scores.mean(0)
        pinned = pinned_bits(layers, recipe.quantize.pin)
        spending = self._spending(operations, inputs)
        most = budget.average_bits or 8.0 if spending is None else spending.average_bits(layers)
        scores = reduce(table, importance.group_names)
        probe = self._probe()
        errors = self._weight_errors(widths(choices, pinned))
        problem = make_problem(
            layers, importance, scores, quantizer, choices, most, pinned, probe, spending, errors
        )  # fmt: skip
        if errors is not None:
            measured = self._measured(errors)
            problem = with_measured(problem, layers, measured, lambda scores: reduce(scores, importance.group_names))

        def solve(bits: float) -> tuple[Allocation, BitPlan]:
            found: Allocation = allocator.allocate(replace(problem, average_bits=bits))
            return found, plan_of(layers, found.bits)

        if budget.bytes is None:
            allocation, plan = solve(most)
            most = most if spending is None else spending.average_bits(layers, plan)
        else:
            measure = partial(self._file_bytes, metadata)
            allocation, plan, most = within_size(
                budget.bytes, budget.average_bits, problem.least_bits(), solve, measure
            )
        if is_leader():
            probe.keep()
        return attach(layers, quantizer, plan, choices, most, pinned, problem.scores, spending), allocation

    def _weight_errors(self, widths: tuple[int, ...]) -> Mapping[str, Tensor] | None:
        """Layer -> Q_b(W) - W at each width [K, ...], for an importance that measures what they do; None for others."""
        recipe = self.recipe
        if recipe.importance is None or not isinstance(recipe.importance.value, ErrorImportance):
            return None
        assert recipe.quantizer is not None
        quantizer = recipe.quantizer.value
        return {layer.name: torch.stack([*weight_errors(layer, quantizer, widths)]) for layer in self.layers}

    def _measured(self, errors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Layer -> importance-weighted errors per group [G, U, K]."""
        assert self.recipe.importance is not None
        importance: ErrorImportance = self.recipe.importance.value
        stream = batches(self.images(), self.recipe.calibration.batch_size, self.normalize, self.device)
        return importance.group_errors(self.network, stream, self.layers, self.splits.group_names, errors)

    def _spending(self, operations: Operations, inputs: Mapping[str, int]) -> Spending | None:
        """The budget where it is of something else than bits or bytes."""
        budget = self.recipe.budget
        if budget.bit_operations is not None:
            return operations.spending(budget.bit_operations, inputs)
        if budget.milliseconds is not None and budget.latency_table is not None:
            return latency_spending(read_table(budget.latency_table), budget.milliseconds, self.layers)
        return None

    def _probe(self) -> RememberingProbe:
        """For allocators that measure: the losses of a plan on a few calibration images. Costs nothing until asked."""
        assert self.recipe.quantizer is not None
        images, settings = self.images(), self.recipe.calibration
        few = images.subset(np.arange(min(settings.probe_images, len(images))))
        stream = partial(batches, few, settings.batch_size, self.normalize, self.device)
        groups = len(self.splits.group_names)
        probe = LossProbe(self.network, self.layers, self.recipe.quantizer.value, stream, groups)
        about = [self.recipe.quantizer.to_dict(), str(self.network), [layer.name for layer in self.layers], groups]
        return RememberingProbe(probe, self.kept, json.dumps(about))

    def _file_bytes(self, metadata: Mapping[str, Any], plan: BitPlan) -> int:
        """At most what the file will have with this plan, everything in it counted."""
        assert self.recipe.quantizer is not None
        weights = {}
        for layer in self.layers:
            weight, bits = layer.weight.detach(), plan.bits[layer.name]
            weights[layer.name] = self.recipe.quantizer.value.build(weight, bits, self.recipe.quantize.choices).encode(
                weight
            )
        audit_text, padding = 200 + 80 * len(self.recipe.metrics), 9 * len(self.layers)  # a byte a width of each layer
        return len(artifact_content(self.network, self.layers, weights, metadata)) + audit_text + padding
