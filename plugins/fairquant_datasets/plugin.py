"""Registers the data sets."""

from __future__ import annotations

from fairquant.registry import Registrar, hookimpl


@hookimpl
def fairquant_register(registry: Registrar) -> None:
    for name, target, summary in (
        ("isic2019", "isic2019:Isic2019", "dermoscopy, official layout; groups by sex, age or both"),
        ("fitzpatrick17k", "fitzpatrick17k:Fitzpatrick17k", "clinical photographs by skin type"),
        ("image-table", "image_table:ImageTable", "your own csv table and folder of images"),
        ("synthetic-lesions", "synthetic_lesions:SyntheticLesions", "generated in memory; used by --demo"),
    ):
        registry.add("dataset", name, f"fairquant_datasets.{target}", summary)
