"""Registers the paper's components."""

from __future__ import annotations

from typing import Any

from fairquant.registry import hookimpl


@hookimpl
def fairquant_register(registry: Any) -> None:
    add, here = registry.add, "fairquant_paper"
    add("importance", "gradient", f"{here}.importance:Gradient", "sum of |dL_g/dW|")
    add("importance", "grape", f"{here}.importance:Grape", "sum of (W dL_g/dW)^2, FairGRAPE's saliency")
    add("reducer", "max", f"{here}.reducers:Max", "the group that needs a unit most decides")
    add("reducer", "mean", f"{here}.reducers:Mean", "the average group")
    add("reducer", "cvar", f"{here}.reducers:Cvar", "mean of the worst share of groups")
    add(
        "reducer",
        "balanced",
        f"{here}.reducers:Balanced",
        "max over groups, each scaled by its share of all importance",
    )
    add("reducer", "subtractive", f"{here}.reducers:Subtractive", "unprivileged minus beta times privileged")
    add("allocator", "quantile", f"{here}.quantile:Quantile", "the paper's rule: fixed shares of units at fixed bits")
    add("quantizer", "uniform", f"{here}.uniform:Uniform", "symmetric uniform; scale absmax, mse or learned")
    add("quantizer", "baq", f"{here}.baq:Baq", "bit-aware: bits and dead zone are learnt with the weights")
    add("regularizer", "loss-gap", f"{here}.regularizers:LossGap", "largest minus smallest group loss")
    add("regularizer", "bit-anchor", f"{here}.regularizers:BitAnchor", "bit logits stay near their start")
    add("regularizer", "bit-l2", f"{here}.regularizers:BitL2", "squared bit logits: pressure towards few bits")
