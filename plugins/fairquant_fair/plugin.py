"""Registers our own components."""

from __future__ import annotations

from typing import Any

from fairquant.registry import hookimpl


@hookimpl
def fairquant_register(registry: Any) -> None:
    add, here = registry.add, "fairquant_fair"
    add("importance", "fisher", f"{here}.fisher:Fisher", "per-sample squared gradients, one pass for all groups")
    add("allocator", "knapsack", f"{here}.allocators:Knapsack", "least importance-weighted error within the budget")
    add("allocator", "minimax", f"{here}.allocators:Minimax", "the worst-served group decides, within the budget")
    add("regularizer", "group-variance", f"{here}.regularizers:GroupVariance", "variance of the group losses")
    add("regularizer", "bit-budget", f"{here}.regularizers:BitBudget", "price of a bit by dual ascent on the budget")
    for name, attribute, text in (
        ("accuracy", "Accuracy", "share of images that are right"),
        ("balanced-accuracy", "BalancedAccuracy", "mean recall over classes"),
        ("worst-group-accuracy", "WorstGroupAccuracy", "accuracy of the worst-served group"),
        ("accuracy-gap", "AccuracyGap", "best minus worst group accuracy"),
        ("eopp0", "EqualOpportunity0", "gap of true negative rates between groups"),
        ("eopp1", "EqualOpportunity1", "gap of true positive rates between groups"),
        ("eodd", "EqualizedOdds", "gap of true and false positive rates"),
        ("demographic-parity", "DemographicParity", "gap of prediction rates"),
        ("predictive-equality", "PredictiveEquality", "gap of false positive rates"),
    ):
        module = "accuracy" if "accuracy" in name else "rates"
        add("metric", name, f"{here}.{module}:{attribute}", text)
