"""Registers our own components."""

from __future__ import annotations

from typing import Any

from fairquant.registry import hookimpl


@hookimpl
def fairquant_register(registry: Any) -> None:
    add, here = registry.add, "fairquant_fair"
    add("importance", "fisher", f"{here}.fisher:Fisher", "per-sample squared gradients, one pass for all groups")
    add("importance", "block-fisher", f"{here}.fisher:BlockFisher", "fisher along each width's own quantization error")
    add("importance", "runner", f"{here}.runner:Runner", "gradient of the gap of group losses, times weights")
    add("allocator", "knapsack", f"{here}.allocators:Knapsack", "least importance-weighted error within the budget")
    add("allocator", "minimax", f"{here}.allocators:Minimax", "the worst-served group decides, within the budget")
    add("regularizer", "group-variance", f"{here}.regularizers:GroupVariance", "variance of the group losses")
    add("regularizer", "bit-budget", f"{here}.regularizers:BitBudget", "price of a bit by dual ascent on the budget")
    for name, target, text in (
        ("group-dro", "robust:GroupDro", "groups weighted by exp of their losses so far"),
        ("cvar-groups", "robust:CvarGroups", "mean of the worst share of group losses"),
        ("cvar-samples", "robust:CvarSamples", "mean of the worst share of losses; needs no groups"),
        ("soft-demographic-parity", "parity:SoftDemographicParity", "spread of mean probabilities over groups"),
        ("soft-equalized-odds", "parity:SoftEqualizedOdds", "spread of mean probabilities given the label"),
        ("feature-mmd", "parity:FeatureMmd", "maximum mean discrepancy of features between groups"),
        ("distillation", "distillation:Distillation", "answers stay near the full-precision model's"),
    ):
        add("regularizer", name, f"{here}.{target}", text)
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
        ("predictive-parity", "PredictiveParity", "gap of positive predictive values"),
        ("auc", "Auc", "mean one-vs-rest area under the ROC curve"),
        ("worst-group-auc", "WorstGroupAuc", "lowest group AUC"),
        ("ece", "ExpectedCalibrationError", "expected calibration error"),
        ("brier", "BrierScore", "squared error of the probabilities"),
    ):
        scores = name.endswith("auc") or name in ("ece", "brier")
        module = "scores" if scores else "accuracy" if "accuracy" in name else "rates"
        add("metric", name, f"{here}.{module}:{attribute}", text)
