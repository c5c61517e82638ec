"""MedMNIST: small medical images in one .npz file with its own split; it has no sensitive attribute of its own."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fairquant.data.duplicates import separate
from fairquant.data.image_cache import cached
from fairquant.data.reading import ReadImage
from fairquant.data.splits import LabelledImages, make_splits, rows_by_name
from fairquant.errors import UserError
from fairquant.roles.dataset import DataContext, Source, Splits
from fairquant_datasets.table_files import read_table
from fairquant_datasets.values import UNKNOWN, canonical

Name = Literal[
    "pathmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist", "breastmnist", "bloodmnist", "tissuemnist",
    "organamnist", "organcmnist", "organsmnist",
]  # fmt: skip
PARTS = {"train": "train", "val": "validation", "test": "test"}
_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
#: Name -> its classes, and the published number of images in train, validation and test.
SETS: Mapping[str, tuple[tuple[str, ...], tuple[int, int, int]]] = {
    "pathmnist": (("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
                   "cancer-associated stroma", "colorectal adenocarcinoma epithelium"), (89_996, 10_004, 7_180)),
    "dermamnist": (("actinic keratoses", "basal cell carcinoma", "benign keratosis-like lesions", "dermatofibroma",
                    "melanoma", "melanocytic nevi", "vascular lesions"), (7_007, 1_003, 2_005)),
    "octmnist": (("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"), (97_477, 10_832, 1_000)),
    "pneumoniamnist": (("normal", "pneumonia"), (4_708, 524, 624)),
    "retinamnist": (("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"), (1_080, 120, 400)),
    "breastmnist": (("malignant", "normal or benign"), (546, 78, 156)),
    "bloodmnist": (("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte",
                    "neutrophil", "platelet"), (11_959, 1_712, 3_421)),
    "tissuemnist": (("collecting duct", "distal convoluted tubule", "glomerular endothelial cells",
                     "interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments",
                     "thick ascending limb"), (165_466, 23_640, 47_280)),
    "organamnist": (_ORGANS, (34_581, 6_491, 17_778)),
    "organcmnist": (_ORGANS, (13_000, 2_392, 8_268)),
    "organsmnist": (_ORGANS, (13_940, 2_452, 8_829)),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MedMnist:
    """MedMNIST (Yang et al., Scientific Data 2023): <name>.npz or <name>_<pixels>.npz under `root`, with its own split.

    subset: which of the eleven sets of two-dimensional images with one label each; pixels: 28, 64, 128 or 224. groups: a table
    with the columns `split` (train, val, test), `index` (from 0, in that part) and `group`, since the files know nothing of
    patients; without it the classes are the groups, so that every class is judged by itself.
    """

    private: ClassVar[tuple[str, ...]] = ("root", "groups")
    root: str = "data/medmnist"
    subset: Name = "pneumoniamnist"
    pixels: Literal[28, 64, 128, 224] = 28
    groups: str | None = None

    @property
    def file(self) -> Path:
        """The .npz file."""
        return Path(self.root) / f"{self.subset}{'' if self.pixels == 28 else f'_{self.pixels}'}.npz"

    def check(self) -> list[str]:
        """What is missing on this machine."""
        problems = []
        if not self.file.is_file():
            problems.append(
                f"dataset.root: no file {str(self.file)!r}. Fetch it with 'fairquant data prepare medmnist "
                f"subset={self.subset} pixels={self.pixels}', or set dataset.root=FOLDER. To try everything without it, add --demo"
            )
        if self.groups is not None and not Path(self.groups).is_file():
            problems.append(f"dataset.groups: no file {self.groups!r}")
        return problems

    def sources(self) -> tuple[Source, ...]:
        """The authors' file."""
        record = "6496656" if self.pixels == 28 else "10519652"
        return (Source(f"https://zenodo.org/records/{record}/files/{self.file.name}?download=1", self.file.name),)

    def load(self, context: DataContext) -> Splits:
        """Read the file and resize the images. Raises UserError."""
        parts = _read(self.file)
        classes, published = SETS[self.subset]
        sizes = [len(parts[f"{name}_labels"]) for name in PARTS]
        labels = self._labels(parts)
        given = [part for name, size in zip(PARTS, sizes, strict=True) for part in [PARTS[name]] * size]
        ids = [f"{name} {row}" for name, size in zip(PARTS, sizes, strict=True) for row in range(size)]
        images = [image for name in PARTS for image in parts[f"{name}_images"]]
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        groups, notes = self._groups(ids, [classes[label] for label in labels])
        counts = {"rows": len(ids)}
        if tuple(sizes) != published:
            notes.append(
                f"{self.file.name} has {sizes} images in train, validation and test, published were {list(published)}"
            )
        known = np.array([bool(group) for group in groups])
        if dropped := int((~known).sum()):
            notes.append(f"{dropped} image(s) dropped: their group is unknown, or they are not in {self.groups}")
            counts["dropped_unknown"] = dropped
        rows = np.flatnonzero(known)
        stays = rows[separate([given[row] for row in rows], [digests[row] for row in rows])]
        if copies := len(rows) - len(stays):
            notes.append(f"{copies} image(s) dropped: the same picture is in test, or in validation, as well")
            counts["dropped_on_two_sides"] = copies
        resized = _Resized(images=images, digests=tuple(digests), size=context.image_size)
        array, _, cache_notes = cached(resized, context)
        notes += cache_notes
        occurring = sorted({int(label) for label in labels[stays]})
        number = {label: place for place, label in enumerate(occurring)}
        names = sorted(
            {groups[row] for row in stays}, key=lambda name: (classes.index(name) if name in classes else 0, name)
        )
        return make_splits(
            LabelledImages(
                array=array, array_rows=stays, ids=[ids[row] for row in stays], digest=resized.key, notes=notes, counts=counts,
                labels=np.array([number[int(label)] for label in labels[stays]], np.int64),
                groups=np.array([names.index(groups[row]) for row in stays], np.int64),
                class_names=[classes[label] for label in occurring], group_names=names,
                attributes=["class" if self.groups is None else "group"], given=True,
            ),
            rows_by_name([given[row] for row in stays]),
        )  # fmt: skip

    def _labels(self, parts: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.int64]:
        """The class of each image [N], train, validation and test one after the other."""
        stored = [parts[f"{name}_labels"] for name in PARTS]
        classes = len(SETS[self.subset][0])
        single = all(each.size == len(each) and np.issubdtype(each.dtype, np.integer) for each in stored)
        labels = np.concatenate([each.reshape(-1) for each in stored]).astype(np.int64) if single else np.array([-1])
        if labels.min() < 0 or labels.max() >= classes:
            raise UserError(f"{self.file}: its labels are not one of {classes} classes for each image")
        if len(np.unique(labels)) < 2:
            raise UserError(f"{self.file}: all images have one label; a classifier needs two classes")
        return labels

    def _groups(self, ids: list[str], classes: list[str]) -> tuple[list[str], list[str]]:
        """The group of each image, "" where it is unknown, and notes."""
        if self.groups is None:
            return classes, [
                "MedMNIST has no sensitive attribute: each class is a group of its own. See dataset.groups"
            ]
        table = read_table(Path(self.groups), ["split", "index", "group"])
        said: dict[str, str] = {}
        problems = []
        for row, values in enumerate(table.rows):
            name = f"{ {'validation': 'val'}.get(values['split'], values['split']) } {values['index']}"
            group = "" if canonical(values["group"]) in {canonical(each) for each in UNKNOWN} else values["group"]
            if said.setdefault(name, group) != group:
                problems.append(f"{table.at(row)}: {name} is listed with another group before")
        if foreign := sorted(said.keys() - set(ids)):
            problems.append(
                f"{self.groups}: {len(foreign)} row(s) name no image of {self.file.name}, first {foreign[0]!r}"
            )
        if problems:
            raise UserError(problems[:10])
        return [said.get(name, "") for name in ids], []


@dataclass(frozen=True, kw_only=True)
class _Resized:
    """Images as uint8 [N, S, S, 3]. digests: of what they come from."""

    images: Sequence[NDArray[np.uint8]]
    digests: tuple[str, ...]
    size: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.images), self.size, self.size, 3

    @property
    def key(self) -> str:
        return hashlib.sha256("|".join([str(self.size), *self.digests]).encode()).hexdigest()

    def read(self, row: int) -> ReadImage:
        from PIL import Image

        picture = Image.fromarray(self.images[row]).convert("RGB")
        wanted = (self.size, self.size)
        return ReadImage(
            pixels=np.asarray(picture if picture.size == wanted else picture.resize(wanted, Image.Resampling.BILINEAR))
        )


def _read(file: Path) -> dict[str, NDArray[np.uint8]]:
    """The six arrays of a file. Raises UserError."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            parts = {name: stored[name] for part in PARTS for name in (f"{part}_images", f"{part}_labels")}
    except KeyError as error:
        raise UserError(f"{file}: it has no {error.args[0].split()[0]}: is it a file of MedMNIST?") from error
    except (OSError, ValueError, TypeError, MemoryError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{file}: cannot be read as .npz: {str(error).splitlines()[0]}") from error
    for part in PARTS:
        images, labels = parts[f"{part}_images"], parts[f"{part}_labels"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
            raise UserError(
                f"{file}: {part}_images is {images.dtype} {list(images.shape)}; 8-bit images, grey or in three colours, are read "
                "(no volumes)"
            )
        if len(images) != len(labels) or not len(images):
            raise UserError(f"{file}: {len(images)} {part}_images and {len(labels)} {part}_labels")
    return parts
