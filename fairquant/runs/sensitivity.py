"""How much every unit matters to every group, and what each width does to it: what the budget is spent by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fairquant.bits import make_problem
from fairquant.bits.problem import BitChoices, Budget, squared_errors, weight_errors, with_measured
from fairquant.recipe.schema import Quantization
from fairquant.roles import AllocationProblem, ErrorImportance, GroupImportance, JointImportance, Layer
from fairquant.rounding.expected import errors_of_all, observe
from fairquant.runs.calibration import CalibrationImages
from fairquant.runs.plugin_laws import check_quantizer, check_scores, leaves_alone, reduced


@dataclass(frozen=True, kw_only=True, eq=False)
class WidthErrors:
    """What each of K widths does. moments: layer -> second moments of its inputs [S, n, n], empty unless the rounding compensates;
    weights: layer -> Q_b(W) - W [K, *weight.shape], after compensation where there are moments; None where nothing asks for them.
    by_group: layer -> e_{u,g}(b) [G, U, K], where the importance has measured it."""

    moments: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] | None = None
    by_group: Mapping[str, Tensor] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """importance: of every unit to every group; errors: of each width, where they were measured with it."""

    importance: GroupImportance
    errors: WidthErrors | None = None


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Measures importance, and the errors of each width, in at most two passes over the calibration images. known: what each width
    does to the weights, in place of what rounding them now would do."""

    quantization: Quantization
    calibration: CalibrationImages
    layers: tuple[Layer, ...]
    choices: BitChoices
    known: WidthErrors | None = None

    @property
    def group_names(self) -> tuple[str, ...]:
        return self.calibration.splits.group_names

    def measure(self) -> Measured:
        """Importance of every unit to every group; all ones where the method asks for none. With the errors of each width where
        one pass gives both."""
        quantizer, component = self.quantization.quantizer, self.quantization.importance
        check_quantizer(quantizer.value, self.layers, self.choices.free, quantizer.name)
        names, network, errors = self.group_names, self.calibration.model.network, None
        if component is None:
            ones = {layer.name: torch.full((len(names), layer.units), float(layer.unit_size)) for layer in self.layers}
            return Measured(importance=GroupImportance(ones, names))
        together = isinstance(component.value, JointImportance) and not self._inputs_change()
        known = self._known_errors() if together else WidthErrors()
        with leaves_alone(network, f"importance {component.name!r}"):
            if isinstance(component.value, JointImportance) and known.weights is not None:
                found, by_group = component.value.measure_jointly(
                    network, self.calibration.batches(), self.layers, names, known.weights
                )
                errors = WidthErrors(moments=known.moments, weights=known.weights, by_group=by_group)
            else:
                found = component.value.measure(network, self.calibration.batches(), self.layers, names)
        check_scores(found, self.layers, names, component.name)
        return Measured(importance=found, errors=errors)

    def problem(self, measured: Measured, budget: Budget) -> tuple[AllocationProblem, Mapping[str, Tensor] | None]:
        """Units, their importance and their errors at each width, by the quantizer that will be used; and what each width does to
        each layer's weight [K, *weight.shape], where it is known."""
        importance, choices, quantizer = measured.importance, self.choices, self.quantization.quantizer.value
        errors = measured.errors or self._by_group(self._known_errors())
        squared = squared_errors(
            self.layers, quantizer, choices.columns, importance.relative, errors.weights, errors.moments
        )
        scores = self._reduce(importance.table())
        problem = make_problem(self.layers, importance, scores, squared, choices, budget)
        if errors.by_group is not None:
            problem = with_measured(problem, self.layers, errors.by_group, self._reduce)
        return problem, errors.weights

    def _inputs_change(self) -> bool:
        """Whether the layers will see other inputs than those that importance is measured with: of few bits."""
        return self.calibration.recipe.activations.bits is not None

    def _known_errors(self) -> WidthErrors:
        """What each width does to the weights, for an importance or a rounding that goes by it."""
        if self.known is not None:
            return self.known
        component, rounding = self.quantization.importance, self.quantization.rounding
        quantizer, columns = self.quantization.quantizer.value, self.choices.columns
        if component is None:
            return WidthErrors()  # a plan that depends on no errors
        moments: Mapping[str, Tensor] = {}
        if rounding is not None and "inputs" in rounding.value.needs:
            moments = observe(self.calibration.model.network, self.layers, self.calibration.batches())
        if moments:
            return WidthErrors(moments=moments, weights=errors_of_all(self.layers, quantizer, columns, moments))
        if not isinstance(component.value, ErrorImportance):
            return WidthErrors()
        return WidthErrors(
            weights={layer.name: torch.stack([*weight_errors(layer, quantizer, columns)]) for layer in self.layers}
        )

    def _by_group(self, known: WidthErrors) -> WidthErrors:
        """With e_{u,g}(b) in a pass of its own, where the importance measures it."""
        component = self.quantization.importance
        if component is None or not isinstance(component.value, ErrorImportance) or known.weights is None:
            return known
        found = component.value.group_errors(
            self.calibration.model.network, self.calibration.batches(), self.layers, self.group_names, known.weights
        )
        return WidthErrors(moments=known.moments, weights=known.weights, by_group=found)

    def _reduce(self, scores: Tensor) -> Tensor:
        """[G, U] -> [U]."""
        reducer = self.quantization.reducer
        if reducer is None:
            return scores.mean(0)
        return reduced(reducer.value.reduce(scores, self.group_names), scores.shape[1], reducer.name)
