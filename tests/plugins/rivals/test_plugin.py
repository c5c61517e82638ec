"""The names by which recipes call the components of fairquant_rivals."""

from __future__ import annotations

from fairquant_rivals.plugin import fairquant_register

from fairquant.registry import Registry
from fairquant.registry.discovery import Registrar

NAMES = {
    "importance": {"hawq"},
    "allocator": {"fairgrape", "fairprune", "fairquantize", "fmpq", "impq", "uniform"},
    "quantizer": {"codebook-ema"},
    "regularizer": {"nir"},
    "rounding": {"gptq", "nearest"},
}  # fmt: skip


def test_the_names_that_recipes_use_are_registered_and_all_are_of_this_package():
    registry = Registry()
    fairquant_register(Registrar(registry, "fairquant", "1"))
    assert {role: set(registry.names(role)) for role in NAMES} == NAMES
    assert len(registry.entries()) == sum(map(len, NAMES.values()))
    assert all(entry.target.startswith("fairquant_rivals.") for entry in registry.entries())
