"""fairquant predict: class and probability of images, by either file."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairquant.cli.options import images_in
from fairquant.errors import UserError
from fairquant.files import plain_cell, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fairquant.cli.display import Bars
    from fairquant.export.runtime import Preprocessing
    from fairquant.roles import OperatingPoint


def predict(
    file: Annotated[Path, typer.Argument(help="A model.safetensors or an exported .onnx.")],
    images: Annotated[list[str], typer.Argument(help="Images, or folders of them; - reads a list, one a line.")],
    format: Annotated[str, typer.Option(help="table, csv or json (one object a line).")] = "table",
    top: Annotated[int, typer.Option(min=1, help="How many classes to show of each image.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 32,
) -> None:
    """Class and probability of images, and the decision at the operating point where the file has one.

    Files that cannot be decoded are listed and skipped; the exit code is then 1."""
    if format not in ("table", "csv", "json"):
        raise UserError(f"--format {format}: must be table, csv or json")
    from fairquant.cli.display import Bars
    from fairquant.export.audit import operating_point_of
    from fairquant.export.runtime import Preprocessing, in_batches, open_runtime, softmax

    names = _files(images)
    bars, bad = Bars(), 0
    with bars:
        runtime = open_runtime(file)
        point = operating_point_of(runtime.metadata)
        preprocessing, classes = Preprocessing.of(runtime.metadata, file), runtime.metadata["classes"]
        top = min(top, len(classes))
        positives = () if point is None else tuple(classes[number] for number in point.classes)
        writer = _Writer(format, top, None if point is None else point.threshold, " or ".join(positives))
        advance = bars.bar("images", len(names)) if len(names) > batch else lambda steps: None
        for rows in in_batches(len(names), batch):
            pixels = _pixels(preprocessing, names[rows], bars)
            bad += rows.stop - rows.start - len(pixels)
            if pixels:
                import numpy as np

                fractions = softmax(runtime.logits(preprocessing.normalise(np.stack([each for _, each in pixels]))))
                for (name, _), fraction in zip(pixels, fractions, strict=True):
                    order = (-fraction).argsort(kind="stable")[:top]
                    writer.write(name, [(classes[c], float(fraction[c])) for c in order], decide(point, fraction))
            advance(rows.stop - rows.start)
    if bad:
        raise typer.Exit(1)


def _pixels(preprocessing: Preprocessing, names: list[str], bars: Bars) -> list[tuple[str, NDArray[np.uint8]]]:
    """Name and pixels [S, S, 3] of the images that can be decoded; the others, and those that are nearly black, are named."""
    from fairquant.data.reading import is_nearly_black, why_not

    pixels = []
    for name in names:
        try:
            read = preprocessing.read(Path(name))
        except UserError:
            raise
        except Exception as error:
            bars.say(f"{printable(name)}: does not decode: {printable(why_not(error))}")
            continue
        if is_nearly_black(read.kind, read.high, read.largest, preprocessing.intensity):
            bars.say(
                f"{name}: its largest value is {read.largest:.0f} of {read.high:.0f}: the model, which was made with intensity full, "
                "sees it nearly black"
            )
        pixels.append((name, read.pixels))
    return pixels


def decide(point: OperatingPoint | None, fractions: NDArray[np.float64]) -> tuple[float, bool] | None:
    """The score at the operating point and whether it is positive: probabilities of one image [C]; None without one."""
    if point is None:
        return None
    score = float(fractions[list(point.classes)].sum())
    return score, score >= point.threshold


def apart(one: float, other: float) -> tuple[str, str]:
    """Both numbers with three digits, or as many as show that they differ."""
    for digits in range(3, 17):
        if f"{one:.{digits}f}" != f"{other:.{digits}f}" or one == other:
            break
    return f"{one:.{digits}f}", f"{other:.{digits}f}"


def _files(given: list[str]) -> list[str]:
    files: list[str] = []
    for name in given:
        if name == "-":
            files += [line.strip() for line in sys.stdin or () if line.strip()]
        elif not name:
            raise UserError("an image's name is empty. Name files, folders, or - for a list on standard input")
        elif Path(name).is_dir():
            files += [str(each) for each in images_in(Path(name))]
        else:
            files.append(name)
    if not files:
        raise UserError("no images: name files, folders, or - for a list on standard input")
    return files


class _Writer:
    def __init__(self, format: str, top: int, threshold: float | None, positives: str) -> None:
        """positives: the classes whose probabilities the threshold decides about."""
        self.format, self.threshold, self.positives = format, threshold, positives
        self.csv = csv.writer(sys.stdout, lineterminator="\n")
        if format == "csv":
            ranks = [column for n in range(1, top + 1) for column in (f"class{n}", f"probability{n}")]
            self.csv.writerow(["image", *ranks, *(("score", "positive") if threshold is not None else ())])

    def write(self, name: str, ranked: list[tuple[str, float]], decision: tuple[float, bool] | None) -> None:
        """decision: the score at the file's operating point and whether it is positive; None where the file has none."""
        if self.format == "csv":
            decided = () if decision is None else (f"{decision[0]:.6f}", str(decision[1]).lower())
            cells = (cell for c, p in ranked for cell in (plain_cell(c), f"{p:.6f}"))
            self.csv.writerow([plain_cell(printable(name)), *cells, *decided])
        elif self.format == "json":
            content: dict[str, object] = {
                "image": name, "classes": [{"class": c, "probability": round(p, 6)} for c, p in ranked]
            }  # fmt: skip
            if decision is not None:
                content |= {"score": round(decision[0], 6), "positive": decision[1]}
            print(json.dumps(content))
        else:
            shown = "  ".join(f"{c} {p:.3f}" for c, p in ranked)
            if decision is not None:  # first: the decision may differ from the class with the largest probability
                answer, sign = ("positive", ">=") if decision[1] else ("negative", "<")
                score, threshold = apart(decision[0], self.threshold or 0.0)
                rule = f"{answer} for {self.positives} (score {score} {sign} threshold {threshold})"
                shown = f"{rule}  most probable: {shown}"
            print(f"{printable(name)}  {shown}")
