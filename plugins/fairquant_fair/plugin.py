"""Registers our own components."""

from __future__ import annotations

from fairquant.registry import Registrar, hookimpl

#: role, name, target in this package, summary.
COMPONENTS = (
    ("importance", "fisher", "fisher:Fisher", "per-sample squared gradients, one pass for all groups"),
    ("importance", "block-fisher", "fisher:BlockFisher", "fisher along the quantization error of each width"),
    ("importance", "runner", "runner:Runner", "gradient of the gap of group losses, times weights"),
    ("reducer", "weighted", "weighted:Weighted", "mean over groups, each with a weight of its own"),
    ("allocator", "knapsack", "allocators:Knapsack", "least importance-weighted error within the budget"),
    ("allocator", "minimax", "allocators:Minimax", "least error of the worst-served group within the budget"),
    ("rounding", "block", "block_rounding:Block", "learned block by block, from fair-gptq's start, every group alike"),
    ("rounding", "fair-gptq", "fair_gptq:FairGptq", "error-compensated for the worst-served group"),
    ("regularizer", "group-variance", "regularizers:GroupVariance", "variance of the group losses"),
    ("regularizer", "bit-budget", "regularizers:BitBudget", "Lagrange multiplier of the bit budget, by dual ascent"),
    ("regularizer", "group-dro", "robust:GroupDro", "groups weighted by the exponential of their accumulated losses"),
    ("regularizer", "cvar-groups", "robust:CvarGroups", "mean over the worst fraction of group losses"),
    ("regularizer", "cvar-samples", "robust:CvarSamples", "mean over the worst fraction of losses; needs no groups"),
    ("regularizer", "soft-demographic-parity", "parity:SoftDemographicParity", "spread of mean probabilities over groups"),
    ("regularizer", "soft-equalized-odds", "parity:SoftEqualizedOdds", "spread of mean probabilities given the label"),
    ("regularizer", "feature-mmd", "parity:FeatureMmd", "maximum mean discrepancy of features between groups"),
    ("regularizer", "distillation", "distillation:Distillation", "keeps predictions near the full-precision model's"),
    ("metric", "accuracy", "accuracy:Accuracy", "fraction of images classified correctly"),
    ("metric", "balanced-accuracy", "accuracy:BalancedAccuracy", "mean recall over classes"),
    ("metric", "worst-group-accuracy", "accuracy:WorstGroupAccuracy", "accuracy of the worst-served group"),
    ("metric", "group-mean-accuracy", "accuracy:GroupMeanAccuracy", "mean over groups of their accuracy"),
    ("metric", "sensitivity", "recall:Sensitivity", "recall of classes, each against all others"),
    ("metric", "specificity", "recall:Specificity", "true negative rate of classes, each against all others"),
    ("metric", "ppv", "recall:PositivePredictiveValue", "positive predictive value (precision) of classes"),
    ("metric", "worst-class-recall", "recall:WorstClassRecall", "lowest recall of any class"),
    ("metric", "worst-cell-recall", "recall:WorstCellRecall", "lowest recall of any class in any group"),
    ("metric", "recall-loss", "recall:RecallLoss", "the most that any class in any group lost of its recall"),
    ("metric", "operating-point-sensitivity", "recall:OperatingPointSensitivity", "sensitivity at the operating point"),
    ("metric", "operating-point-specificity", "recall:OperatingPointSpecificity", "specificity at the operating point"),
    ("metric", "accuracy-gap", "accuracy:AccuracyGap", "best minus worst group accuracy"),
    ("metric", "eopp0", "rates:EqualOpportunity0", "gap of true negative rates between groups"),
    ("metric", "eopp1", "rates:EqualOpportunity1", "gap of true positive rates between groups"),
    ("metric", "eodd", "rates:EqualizedOdds", "gap of true and false positive rates"),
    ("metric", "demographic-parity", "rates:DemographicParity", "gap of prediction rates"),
    ("metric", "predictive-equality", "rates:PredictiveEquality", "gap of false positive rates"),
    ("metric", "predictive-parity", "rates:PredictiveParity", "gap of positive predictive values"),
    ("metric", "auc", "scores:Auc", "mean one-vs-rest area under the ROC curve"),
    ("metric", "worst-group-auc", "scores:WorstGroupAuc", "lowest group AUC"),
    ("metric", "ece", "scores:ExpectedCalibrationError", "expected calibration error"),
    ("metric", "brier", "scores:BrierScore", "squared error of the probabilities"),
)  # fmt: skip


@hookimpl
def fairquant_register(registry: Registrar) -> None:
    for role, name, target, summary in COMPONENTS:
        registry.add(role, name, f"fairquant_fair.{target}", summary)
