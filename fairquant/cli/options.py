"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: Endings of the files that are taken from a folder of images.
IMAGE_ENDINGS = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom", ".ppm", ".pgm", ".jp2",
)  # fmt: skip


def images_in(folder: Path) -> list[Path]:
    """The images in a folder and those below: files with such an ending, and DICOM files without any."""
    return sorted(each for each in folder.rglob("*") if _is_image(each))


def _is_image(file: Path) -> bool:
    if not file.is_file():
        return False
    if file.suffix:
        return file.suffix.lower() in IMAGE_ENDINGS
    with open(file, "rb") as stream:
        return stream.read(132).endswith(b"DICM")


RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file, or the name of one that ships, such as quickstart.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Override any key, such as budget.average_bits=3 seed=7 method=uniform-4."
    ),
]
Demo = Annotated[
    bool, typer.Option("--demo", help="Synthetic images and a few epochs: runs anywhere; the numbers mean nothing.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 3 where a limit is broken (FAIL), with 4 where it cannot be told.")
]
Runs = Annotated[
    Path | None, typer.Option("--runs", envvar="FAIRQUANT_RUNS", help="Where run folders go.", show_default="runs")
]
OtherData = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Other data: the name of a dataset, with its options as dataset.KEY=VALUE, or a YAML file with a dataset section.",
    ),
]
AllImages = Annotated[bool, typer.Option("--all", help="With --dataset: every image, not only the test part.")]
