"""Registers the components of the methods that FairQuant is compared with."""

from __future__ import annotations

from fairquant.registry import Registrar, hookimpl


@hookimpl
def fairquant_register(registry: Registrar) -> None:
    for role, name, target, summary in (
        ("importance", "hawq", "hawq:Hawq", "Hessian diagonal by random signs, times squared weights"),
        ("allocator", "uniform", "uniform:UniformBits", "the same bits for every unit"),
        ("allocator", "fairgrape", "ranked:FairGrape", "the group with the largest deficit picks the next unit"),
        ("allocator", "fairquantize", "ranked:FairQuantize", "lowers units that serve the unprivileged group least"),
        ("allocator", "fairprune", "ranked:FairPrune", "prunes units that serve the unprivileged group least"),
        ("allocator", "impq", "probing:Impq", "interactions between layers, as a quadratic programme"),
        ("allocator", "fmpq", "probing:Fmpq", "fewest bits per layer under a common bound on the loss increase"),
        ("regularizer", "nir", "nir:NeuronImportance", "even importance of neurons; needs no groups"),
        ("quantizer", "codebook-ema", "codebook:CodebookEma", "codebooks whose codewords track the weights (ADQ)"),
        ("rounding", "nearest", "nearest:Nearest", "to the nearest point of the grid"),
        ("rounding", "gptq", "gptq:Gptq", "error-compensated, column by column; blind to groups (GPTQ)"),
    ):
        registry.add(role, name, f"fairquant_rivals.{target}", summary)
