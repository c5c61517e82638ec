"""Registers the rivals' components."""

from __future__ import annotations

from typing import Any

from fairquant.registry import hookimpl


@hookimpl
def fairquant_register(registry: Any) -> None:
    add, here = registry.add, "fairquant_rivals"
    add("importance", "hawq", f"{here}.hawq:Hawq", "Hessian diagonal by random signs, times squared weights")
    add("allocator", "uniform", f"{here}.uniform:UniformBits", "the same bits everywhere")
    add("allocator", "fairgrape", f"{here}.ranked:FairGrape", "the group with the largest deficit picks next")
    add("allocator", "fairquantize", f"{here}.ranked:FairQuantize", "units that serve the unprivileged least go first")
    add("allocator", "fairprune", f"{here}.ranked:FairPrune", "prunes what serves the unprivileged least")
    add("allocator", "impq", f"{here}.probing:Impq", "interactions between layers, as a quadratic programme")
    add("allocator", "fmpq", f"{here}.probing:Fmpq", "fewest bits per layer under a common rise of the loss")
    add("regularizer", "nir", f"{here}.nir:NeuronImportance", "even importance of neurons; needs no groups")
    add(
        "quantizer", "codebook-ema", f"{here}.codebook:CodebookEma", "words of a codebook that follow the weights (ADQ)"
    )
