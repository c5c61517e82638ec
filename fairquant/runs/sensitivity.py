"""How much every unit matters to every group, and what each width does to it: what the budget is spent by."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from fairquant.bits import make_problem
from fairquant.bits.problem import BitChoices, Budget, squared_errors, weight_errors, with_measured
from fairquant.recipe.schema import Quantization
from fairquant.roles import AllocationProblem, ErrorImportance, GroupImportance, Layer
from fairquant.rounding.expected import InputMoments, errors_of_all
from fairquant.runs.calibration import CalibrationImages
from fairquant.runs.plugin_laws import check_scores, leaves_alone, reduced


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """importance: of every unit to every group; inputs: what the layers see, for a rounding that compensates."""

    importance: GroupImportance
    inputs: InputMoments | None = None


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Measures importance, and the errors of each width, on calibration images: in two passes over them where the method needs
    both, and what the layers see is gathered in the first."""

    quantization: Quantization
    calibration: CalibrationImages
    layers: tuple[Layer, ...]
    choices: BitChoices

    @property
    def group_names(self) -> tuple[str, ...]:
        return self.calibration.splits.group_names

    def measure(self) -> Measured:
        """Importance of every unit to every group; all ones where the method asks for none."""
        names, component = self.group_names, self.quantization.importance
        if component is None:
            ones = {layer.name: torch.full((len(names), layer.units), float(layer.unit_size)) for layer in self.layers}
            return Measured(importance=GroupImportance(ones, names))
        network, inputs = self.calibration.model.network, None
        if self._compensates():
            inputs = InputMoments(network, self.layers)
        images = self.calibration.batches()
        with (
            leaves_alone(network, f"importance {component.name!r}"),
            nullcontext(images) if inputs is None or self._inputs_change() else inputs.watching(images) as stream,
        ):
            found = component.value.measure(network, stream, self.layers, names)
        check_scores(found, self.layers, names, component.name)
        return Measured(importance=found, inputs=inputs)

    def problem(self, measured: Measured, budget: Budget) -> tuple[AllocationProblem, Mapping[str, Tensor] | None]:
        """Units, their importance and their errors at each width, by the quantizer that will be used; and what each width does to
        each layer's weight [K, ...], after compensation where the rounding compensates, where it is known."""
        importance, choices, quantizer = measured.importance, self.choices, self.quantization.quantizer.value
        moments = {} if measured.inputs is None else measured.inputs.result(self.calibration.batches())
        known = self._weight_errors(moments)
        errors = squared_errors(self.layers, quantizer, choices.columns, importance.relative, known, moments)
        scores = self._reduce(importance.table())
        problem = make_problem(self.layers, importance, scores, errors, choices, budget)
        component = self.quantization.importance
        if known is not None and component is not None and isinstance(component.value, ErrorImportance):
            by_group = component.value.group_errors(
                self.calibration.model.network, self.calibration.batches(), self.layers, self.group_names, known
            )
            problem = with_measured(problem, self.layers, by_group, self._reduce)
        return problem, known

    def _compensates(self) -> bool:
        """Whether the rounding makes up for errors, which a plan that goes by errors has to know."""
        rounding = self.quantization.rounding
        return rounding is not None and "inputs" in rounding.value.needs

    def _inputs_change(self) -> bool:
        """Whether the layers will see other inputs than those that importance is measured with: of few bits."""
        return self.calibration.recipe.activations.bits is not None

    def _weight_errors(self, moments: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Layer -> Q_b(W) - W at each width [K, ...], for an importance or a rounding that goes by what they do; None for others."""
        importance, quantizer = self.quantization.importance, self.quantization.quantizer.value
        if moments:
            return errors_of_all(self.layers, quantizer, self.choices.columns, moments)
        if importance is None or not isinstance(importance.value, ErrorImportance):
            return None
        columns = self.choices.columns
        return {layer.name: torch.stack([*weight_errors(layer, quantizer, columns)]) for layer in self.layers}

    def _reduce(self, scores: Tensor) -> Tensor:
        """[G, U] -> [U]."""
        reducer = self.quantization.reducer
        if reducer is None:
            return scores.mean(0)
        return reduced(reducer.value.reduce(scores, self.group_names), scores.shape[1], reducer.name)
