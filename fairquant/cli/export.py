"""fairquant export: the packed file to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairquant.cli.options import Overrides, images_in
from fairquant.errors import UserError
from fairquant.files import check_target

#: Images of a folder that are calibrated with, at most.
MOST = 512

if TYPE_CHECKING:
    from fairquant.cli.display import Bars
    from fairquant.export.onnx import Exported
    from fairquant.export.ranges import Calibration
    from fairquant.export.runtime import Metadata


def export(
    file: Annotated[Path, typer.Argument(help="A run's model.safetensors.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The new file; by default beside the old one.")] = None,
    format: Annotated[str, typer.Option(help="onnx.")] = "onnx",
    activations: Annotated[str, typer.Option(help="int8 (fast on CPUs) or fp32.")] = "int8",
    method: Annotated[
        str, typer.Option(help="How activations are calibrated: percentile, minmax or entropy.")
    ] = "percentile",
    coverage: Annotated[
        str,
        typer.Option(help="groups: a range covers what --method requires for each group; all: of all images pooled."),
    ] = "groups",
    images: Annotated[
        Path | None, typer.Option(help="A folder of images to calibrate with, in place of the recipe's data.")
    ] = None,
) -> None:
    """Write ONNX with the same integer codes, for ONNX Runtime's int8 kernels. Data: dataset.root=FOLDER or --images."""
    _check_choices(format, activations, method, coverage)
    check_target("--out", out, ".onnx")
    _check_overrides(overrides or [])
    from fairquant.artifact.load import read_artifact
    from fairquant.cli.display import Bars
    from fairquant.export.onnx import ExportOptions, export_onnx, need_onnx

    need_onnx()
    bars = Bars()
    with bars:
        metadata = read_artifact(file).metadata
        calibration = None
        if activations == "int8":
            bars.say("reading calibration images ...")
            calibration = _calibration(file, metadata, images, overrides or [], bars)
        bars.say("exporting ...")
        options = ExportOptions(activations=activations, method=method, coverage=coverage)  # type: ignore[arg-type]  # checked
        exported = export_onnx(file, out or file.with_suffix(".onnx"), options, calibration)
    _show(exported)


def _check_choices(format: str, activations: str, method: str, coverage: str) -> None:
    """UserError for a value that an option does not have."""
    for option, value, known in (
        ("--format", format, ("onnx",)), ("--activations", activations, ("int8", "fp32")),
        ("--method", method, ("percentile", "minmax", "entropy")), ("--coverage", coverage, ("groups", "all")),
    ):  # fmt: skip
        if value not in known:
            raise UserError(f"{option} {value}: must be one of {', '.join(known)}")


def _check_overrides(overrides: list[str]) -> None:
    """UserError for a key that an export does not read."""
    others = [each for each in overrides if each.partition("=")[0].partition(".")[0] not in ("dataset", "calibration")]
    if others:
        raise UserError(
            [f"{each!r}: an export reads dataset.* and calibration.* only; all else is in the file" for each in others]
        )


def _show(exported: Exported) -> None:
    """What was written, and what it clips of each group's activations."""
    layers = f"{len(exported.int4)} layers in int4, {len(exported.int8)} in int8"
    print(f"{exported.path}: {exported.bytes / 1e6:.2f} MB; {layers}")
    for group, (mean, worst) in exported.clipped.items():
        print(f"  {group}: {100 * mean:.4f} % of activations beyond their range (worst tensor {100 * worst:.3f} %)")
    if exported.rounded:
        print(
            f"  {len(exported.rounded)} layers have non-uniform levels (dead zones, codebooks, offsets), rounded to int8"
        )
    if exported.in_float:
        names = ", ".join(exported.in_float[:4]) + (", ..." if len(exported.in_float) > 4 else "")
        print(
            f"  {len(exported.in_float)} layers are not stored as codes: the exporter computed something else from them, or "
            f"they are unused ({names})"
        )
    print(f"  audit what it changed for each group: fairquant audit {exported.path}")


def _calibration(file: Path, metadata: Metadata, images: Path | None, overrides: list[str], bars: Bars) -> Calibration:
    import numpy as np

    from fairquant.export.audit import CALIBRATION_BATCH, calibration_images, check_intensity, recipe_of
    from fairquant.export.ranges import Calibration
    from fairquant.export.runtime import Preprocessing, in_batches

    preprocessing = Preprocessing.of(metadata, file)
    if images is None:
        from fairquant.registry import discover
        from fairquant.runs.data import load_data

        if preprocessing.by_caller:
            raise UserError(
                f"{file}: made from your own nn.Module in Python, which the file does not hold. Export it from Python: "
                "fairquant.export.onnx.export_onnx (docs/networks.md)"
            )
        plugins = discover()
        recipe = recipe_of(metadata, file, overrides, plugins)
        splits = load_data(recipe, bars, plugins.registry)
        check_intensity(recipe, splits, preprocessing, file)
        return calibration_images(recipe, splits, preprocessing)
    from fairquant.data.reading import why_not

    names = images_in(images)
    pixels = []
    for each in names[:MOST]:
        try:
            pixels.append(preprocessing.read(each).pixels)
        except UserError:
            raise
        except Exception as error:
            bars.say(f"{each}: does not decode: {why_not(error)}")
    if not pixels:
        raise UserError(f"--images {images}: no image there that can be read")
    if len(names) > MOST:
        bars.say(f"--images {images}: the first {MOST} of {len(names)} images are enough to calibrate with")
    read = np.stack(pixels)
    return Calibration([preprocessing.normalise(read[rows]) for rows in in_batches(len(read), CALIBRATION_BATCH)])
