"""Registers the data sets."""

from __future__ import annotations

from typing import Any

from fairquant.registry import hookimpl


@hookimpl
def fairquant_register(registry: Any) -> None:
    add, here = registry.add, "fairquant_datasets"
    add("dataset", "isic2019", f"{here}.isic2019:Isic2019", "dermoscopy, official layout; groups by sex, age or both")
    add("dataset", "fitzpatrick17k", f"{here}.fitzpatrick17k:Fitzpatrick17k", "clinical photographs by skin type")
    add("dataset", "image-table", f"{here}.image_table:ImageTable", "your own csv and folder of images")
    add(
        "dataset", "synthetic-lesions", f"{here}.synthetic_lesions:SyntheticLesions", "drawn in memory; the demo's data"
    )
