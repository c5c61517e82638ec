"""Registers the data sets."""

from __future__ import annotations

from fairquant.registry import Registrar, hookimpl


@hookimpl
def fairquant_register(registry: Registrar) -> None:
    for name, target, summary in (
        ("isic2019", "isic2019:Isic2019", "dermoscopy, official layout; groups by sex, age or both"),
        ("fitzpatrick17k", "fitzpatrick17k:Fitzpatrick17k", "clinical photographs by skin type"),
        ("ham10000", "skin:Ham10000", "dermoscopy of seven diagnoses; groups by sex, age or both"),
        ("bcn20000", "skin:Bcn20000", "dermoscopy of eight diagnoses; groups by sex, age or both"),
        ("isic2020", "skin:Isic2020", "dermoscopy, benign or malignant; groups by sex, age or both"),
        ("pad-ufes-20", "skin:PadUfes20", "photographs by smartphone; groups by sex, age or skin type"),
        ("ddi", "skin:Ddi", "photographs, benign or malignant, by skin type"),
        ("chexpert", "chexpert:CheXpert", "chest radiographs, one finding; groups by sex, age or both"),
        ("celeba", "faces:CelebA", "faces; any of forty attributes as label, another for groups"),
        ("fairface", "faces:FairFace", "faces; gender, age or race as label, another for groups"),
        ("medmnist", "medmnist:MedMnist", "small medical images; groups from a table, or the classes"),
        ("image-table", "image_table:ImageTable", "your own csv table and folder of images"),
        ("synthetic-lesions", "synthetic_lesions:SyntheticLesions", "generated in memory; used by --demo"),
    ):
        registry.add("dataset", name, f"fairquant_datasets.{target}", summary)
