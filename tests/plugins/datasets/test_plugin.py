"""The names by which recipes call the components of fairquant_datasets."""

from __future__ import annotations

from fairquant_datasets.plugin import fairquant_register

from fairquant.registry import Registry
from fairquant.registry.discovery import Registrar

NAMES = {
    "dataset": {
        "bcn20000", "celeba", "chexpert", "ddi", "fairface", "fitzpatrick17k", "ham10000", "image-table", "isic2019", "isic2020",
        "medmnist", "pad-ufes-20", "synthetic-lesions",
    },
}  # fmt: skip


def test_the_names_that_recipes_use_are_registered_and_all_are_of_this_package():
    registry = Registry()
    fairquant_register(Registrar(registry, "fairquant", "1"))
    assert {role: set(registry.names(role)) for role in NAMES} == NAMES
    assert len(registry.entries()) == sum(map(len, NAMES.values()))
    assert all(entry.target.startswith("fairquant_datasets.") for entry in registry.entries())
