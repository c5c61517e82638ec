"""Public data sets of skin lesions with one table: HAM10000, BCN20000, ISIC 2020, PAD-UFES-20, DDI."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from fairquant_datasets.image_table import ImageTable
from fairquant_datasets.published import SEX, Published, by_age
from fairquant_datasets.table_files import read_csv
from fairquant_datasets.tables import Table
from fairquant_datasets.values import AttributeValues, LabelValues

Attribute = Literal["sex", "age", "sex-age"]


def _attributes(chosen: Attribute, sex: str, age: str, edge: float) -> dict[str, AttributeValues]:
    """The columns that are chosen, with their values."""
    columns = {sex: SEX, age: by_age(edge)}
    wanted = {"sex": [sex], "age": [age], "sex-age": [sex, age]}[chosen]
    return {name: columns[name] for name in wanted}


@dataclass(frozen=True, kw_only=True)
class Ham10000(Published):
    """HAM10000 (Tschandl et al., Scientific Data 2018): 10,015 dermoscopic images of seven diagnoses; the parts of the images may lie
    in sub-folders. attribute: sex, age (under `age_edge` / `age_edge` and over) or sex-age. All images of a lesion are in one
    split."""

    tables: ClassVar[tuple[str, ...]] = ("HAM10000_metadata.csv", "HAM10000_metadata")
    images: ClassVar[int] = 10_015
    source: ClassVar[str] = "Harvard Dataverse, doi 10.7910/DVN/DBW86T"

    root: str = "data/ham10000"
    attribute: Attribute = "sex"
    age_edge: int = 60

    def read(self, table: Path) -> Table:
        """dx of image_id."""
        return ImageTable(
            table=str(table), image="image_id", label="dx", patient="lesion_id",
            attributes=_attributes(self.attribute, "sex", "age", self.age_edge),
        ).read()  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bcn20000(Published):
    """BCN20000 (Hernández-Pérez et al., Scientific Data 2024): 12,413 dermoscopic images with a diagnosis, the published training part
    of 18,946 (of the others the table has none). attribute: sex, age (under `age_edge` / `age_edge` and over) or sex-age. All images
    of a lesion are in one split."""

    tables: ClassVar[tuple[str, ...]] = ("bcn_20k_train.csv",)
    images: ClassVar[int] = 12_413
    source: ClassVar[str] = "figshare, doi 10.6084/m9.figshare.24140028"

    root: str = "data/bcn20000"
    attribute: Attribute = "sex"
    age_edge: int = 60

    def read(self, table: Path) -> Table:
        """diagnosis of bcn_filename."""
        return ImageTable(
            table=str(table), image="bcn_filename", label="diagnosis", patient="lesion_id",
            attributes=_attributes(self.attribute, "sex", "age_approx", self.age_edge),
        ).read()  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Isic2020(Published):
    """ISIC 2020 (Rotemberg et al., Scientific Data 2021): 33,126 dermoscopic images, benign or malignant (584); the layouts of the
    challenge and of Kaggle. attribute: sex, age (under `age_edge` / `age_edge` and over) or sex-age. All images of a patient are in
    one split. Where the challenge's list of duplicates (ISIC_2020_Training_Duplicates.csv) is there, the second of each pair is
    dropped."""

    tables: ClassVar[tuple[str, ...]] = ("ISIC_2020_Training_GroundTruth.csv", "train.csv")
    images: ClassVar[int] = 33_126
    source: ClassVar[str] = "the ISIC 2020 challenge (training input as JPEG, and ground truth)"

    root: str = "data/isic2020"
    attribute: Attribute = "sex"
    age_edge: int = 60

    def read(self, table: Path) -> Table:
        """benign_malignant of image_name."""
        read = ImageTable(
            table=str(table), image="image_name", label="benign_malignant", patient="patient_id",
            attributes=_attributes(self.attribute, "sex", "age_approx", self.age_edge),
        ).read()  # fmt: skip
        listed = table.with_name("ISIC_2020_Training_Duplicates.csv")
        if not listed.is_file():
            return read
        again = {row["image_name_2"] for row in read_csv(listed, ["image_name_1", "image_name_2"])}
        kept = [sample for sample in read.samples if sample.id not in again]
        dropped = len(read.samples) - len(kept)
        return replace(
            read, samples=kept, counts={**read.counts, "dropped_duplicates": dropped},
            notes=[*read.notes, f"{dropped} image(s) dropped: {listed.name} names them as the second of a pair"],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PadUfes20(Published):
    """PAD-UFES-20 (Pacheco et al., Data in Brief 2020): 2,298 photographs of six diagnoses by smartphone. attribute: sex, age (under
    `age_edge` / `age_edge` and over), or skin-type (Fitzpatrick I-II, III-IV, V-VI); many rows have no sex and no skin type, which are
    dropped and counted. All images of a patient are in one split."""

    tables: ClassVar[tuple[str, ...]] = ("metadata.csv",)
    images: ClassVar[int] = 2_298
    source: ClassVar[str] = "Mendeley Data, doi 10.17632/zr7vgbcyr2"

    root: str = "data/pad-ufes-20"
    attribute: Literal["sex", "age", "skin-type"] = "sex"
    age_edge: int = 60

    def read(self, table: Path) -> Table:
        """diagnostic of img_id."""
        types = AttributeValues(map={1: "I-II", 2: "I-II", 3: "III-IV", 4: "III-IV", 5: "V-VI", 6: "V-VI"})
        column, values = {
            "sex": ("gender", SEX), "age": ("age", by_age(self.age_edge)), "skin-type": ("fitspatrick", types),
        }[self.attribute]  # fmt: skip
        return ImageTable(
            table=str(table), image="img_id", label="diagnostic", patient="patient_id", attributes={column: values},
        ).read()  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ddi(Published):
    """Diverse Dermatology Images (Daneshjou et al., Science Advances 2022): 656 photographs, benign or malignant, by Fitzpatrick skin
    type I-II, III-IV and V-VI."""

    tables: ClassVar[tuple[str, ...]] = ("ddi_metadata.csv",)
    images: ClassVar[int] = 656
    source: ClassVar[str] = "the Stanford AIMI centre (after registration)"

    root: str = "data/ddi"

    def read(self, table: Path) -> Table:
        """malignant of DDI_file."""
        return ImageTable(
            table=str(table), image="DDI_file",
            label=LabelValues(column="malignant", map={"true": "malignant", "false": "benign"}),
            attributes={"skin_tone": AttributeValues(map={12: "I-II", 34: "III-IV", 56: "V-VI"})},
        ).read()  # fmt: skip
