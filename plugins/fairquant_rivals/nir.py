"""NIR, neuron importance regularization: fairness without group labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fairquant_paper.regularizers import check_weight
from torch import Tensor

from fairquant.roles import Step


@dataclass(frozen=True)
class NeuronImportance:
    """weight * sum_c Var_j(m_jc), m_jc = sum_i p_ic a_ij / sum_i p_ic over penultimate neurons j (arXiv 2605.19393).

    The published form is binary; the sum over classes with softmax p_ic is our reconstruction for several classes. It
    needs no group labels and so is not 0 for one group.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    exempt: ClassVar[dict[str, str]] = {"one_group_costs_nothing": "it concerns neurons and uses no groups"}
    weight: float = 0.1

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        """The weighted sum over classes of the variance over neurons, from logits [B, C] and features [B, D]: a scalar []."""
        assert step.features is not None
        probabilities = step.logits.softmax(1)
        totals = probabilities.sum(0).clamp_min(1e-12)[:, None]
        means = probabilities.T @ step.features.flatten(1) / totals  # [C, neurons]
        return self.weight * means.var(dim=1, correction=0).sum()
