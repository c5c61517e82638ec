"""The names by which recipes call the components of fairquant_fair."""

from __future__ import annotations

from fairquant_fair.plugin import fairquant_register

from fairquant.registry import Registry
from fairquant.registry.discovery import Registrar

NAMES = {
    "importance": {"block-fisher", "fisher", "runner"},
    "reducer": {"weighted"},
    "allocator": {"knapsack", "minimax"},
    "rounding": {"block", "fair-gptq"},
    "regularizer": {"bit-budget", "cvar-groups", "cvar-samples", "distillation", "feature-mmd", "group-dro", "group-variance", "soft-demographic-parity", "soft-equalized-odds"},
    "metric": {"accuracy", "accuracy-gap", "auc", "balanced-accuracy", "brier", "demographic-parity", "ece", "eodd", "eopp0", "eopp1", "group-mean-accuracy", "operating-point-sensitivity", "operating-point-specificity", "ppv", "predictive-equality", "predictive-parity", "recall-loss", "sensitivity", "specificity", "worst-cell-recall", "worst-class-recall", "worst-group-accuracy", "worst-group-auc"},
}  # fmt: skip


def test_the_names_that_recipes_use_are_registered_and_all_are_of_this_package():
    registry = Registry()
    fairquant_register(Registrar(registry, "fairquant", "1"))
    assert {role: set(registry.names(role)) for role in NAMES} == NAMES
    assert len(registry.entries()) == sum(map(len, NAMES.values()))
    assert all(entry.target.startswith("fairquant_fair.") for entry in registry.entries())
