"""Registers the paper's components."""

from __future__ import annotations

from fairquant.registry import Registrar, hookimpl


@hookimpl
def fairquant_register(registry: Registrar) -> None:
    for role, name, target, summary in (
        ("importance", "gradient", "importance:Gradient", "sum of |dL_g/dW|"),
        ("importance", "grape", "importance:Grape", "sum of (W dL_g/dW)^2, FairGRAPE's saliency"),
        ("reducer", "max", "reducers:Max", "maximum over groups: the group that needs a unit most decides"),
        ("reducer", "mean", "reducers:Mean", "mean over groups"),
        ("reducer", "cvar", "reducers:Cvar", "mean over the worst fraction of groups"),
        ("reducer", "balanced", "reducers:Balanced", "maximum over groups, each scaled by its total importance"),
        ("reducer", "subtractive", "reducers:Subtractive", "unprivileged minus beta times privileged"),
        ("allocator", "quantile", "quantile:Quantile", "the paper's rule: fixed fractions of units at fixed bits"),
        ("quantizer", "uniform", "uniform:Uniform", "symmetric uniform; scale absmax, mse or learned"),
        ("quantizer", "baq", "baq:Baq", "bit-aware: bits and dead zone are learned with the weights"),
        ("regularizer", "loss-gap", "regularizers:LossGap", "largest minus smallest group loss"),
        ("regularizer", "bit-anchor", "regularizers:BitAnchor", "keeps bit logits near their initial values"),
        ("regularizer", "bit-l2", "regularizers:BitL2", "squared bit logits: pressure towards few bits"),
    ):
        registry.add(role, name, f"fairquant_paper.{target}", summary)
