"""fairquant audit: what ships, in the runtime that ships it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairquant.cli.options import AllImages, OtherData, Overrides, Strict
from fairquant.cli.run import exit_by
from fairquant.errors import UserError
from fairquant.files import check_target

if TYPE_CHECKING:
    from fairquant.export.audit import ShippedAudit
    from fairquant.recipe import Recipe
    from fairquant.roles import MetricValue


def audit(
    file: Annotated[Path, typer.Argument(help="A model.safetensors or an exported .onnx.")],
    overrides: Overrides = None,
    dataset: OtherData = None,
    every: AllImages = False,
    strict: Strict = False,
    out: Annotated[Path | None, typer.Option(help="Write the audit as JSON.")] = None,
) -> None:
    """Audit a file on its recipe's test images: full precision, trained artifact and exported file side by side."""
    if every and dataset is None:
        raise UserError("--all: only with --dataset. The model was trained on most images of its own data")
    check_target("--out", out, ".json")
    from fairquant.report.write import write_json

    _check_overrides(overrides or [])
    result, recipe = _audit(file, overrides or [], dataset, every)
    print(answer(result))
    print(table(result, recipe))
    if out is not None:
        write_json(out, result)
    if file.suffix == ".onnx" and not result.against:
        print(f"note: no model.safetensors beside {file}, so nothing to compare with. Export into the run's folder")
    if file.suffix == ".onnx" and result.harmed:
        print(f"the export reduces accuracy beyond chance: {', '.join(result.harmed)}")
    if strict:
        exit_by("FAIL" if result.harmed and file.suffix == ".onnx" else result.accept["answer"])


def _check_overrides(overrides: list[str]) -> None:
    """UserError for what an audit cannot change."""
    if any(each.partition("=")[0].strip().partition(".")[0] == "operating_point" for each in overrides):
        raise UserError(
            "operating_point: the threshold was chosen on validation and is in the file: an audit cannot change it. Run the recipe "
            "with another operating_point"
        )


def answer(result: ShippedAudit) -> str:
    """The answer to the recipe's limits, and those that are broken."""
    from fairquant.report.answer import answer_sentence, cells_sentences, limit_words

    broken = [f"  FAIL  {limit_words(each)}" for each in result.accept["limits"] if each["answer"] == "FAIL"]
    if not result.compared_with:
        alone = (
            "there is no full-precision model beside the file to compare with, so that no loss can be excluded. Audit the file "
            "in its run's folder"
        )
        told = answer_sentence(result.accept) if broken else f"{result.accept['answer']}: {alone}"
        return "\n".join([told, *broken, *([f"{alone[0].upper()}{alone[1:]}"] if broken else [])])
    lost = [] if result.cells is None else cells_sentences(result.cells, result.accept)
    return "\n".join([f"{answer_sentence(result.accept)} Compared with: {result.compared_with}", *broken, *lost])


def _audit(file: Path, overrides: list[str], dataset: str | None, every: bool) -> tuple[ShippedAudit, Recipe]:
    """The file's audit beside that of what it was made from, and the recipe that its data come from."""
    from fairquant.cli.display import Bars
    from fairquant.data.splits import TOO_FEW
    from fairquant.export.audit import (
        audit_file,
        audit_splits,
        check_content,
        check_intensity,
        predictions_of,
        recipe_of,
        reference_predictions,
    )
    from fairquant.export.runtime import Preprocessing, open_runtime
    from fairquant.registry import discover
    from fairquant.runs.data import load_data
    from fairquant.runs.plugin_errors import naming_plugins

    with Bars() as bars:
        bars.say("loading ...")
        runtime = open_runtime(file)
        preprocessing = Preprocessing.of(runtime.metadata, file)
        plugins = discover()
        recipe = recipe_of(runtime.metadata, file, overrides, plugins, dataset)
        loaded = load_data(recipe, bars, plugins.registry)
        check_intensity(recipe, loaded, preprocessing, file)
        if dataset is None and not overrides:
            check_content(recipe, loaded, plugins, file)
        splits = audit_splits(loaded, runtime.metadata["classes"], every, file)
        for note in splits.notes if dataset is not None else ():
            if not (every and note.startswith(TOO_FEW)):
                bars.say(note)
        own = predictions_of(runtime, splits, preprocessing, bars.bar("predicting", len(splits.test)))
        others = reference_predictions(file, own, splits, preprocessing, bars.bar)
    with naming_plugins(recipe, plugins.registry):
        return audit_file(own, f"{file.name} in {runtime.name}", others, recipe, file.stat().st_size), recipe


def table(result: ShippedAudit, recipe: Recipe) -> str:
    """Metrics by column, then accuracy by group, then what the last step changed."""
    from fairquant.report.card import SHOWN

    names = list(result.columns)
    width = max(len(name) for name in names) + 2
    lines = [" " * 26 + "".join(f"{name:>{max(width, 26)}}" for name in names)]
    labels = [label for label in SHOWN if label in result.columns[names[-1]]]
    labels += [c.label for c in recipe.metrics if c.label not in SHOWN and len(recipe.metrics) <= 8]
    for label in labels:
        cells = "".join(f"{_value(result.columns[name][label]):>{max(width, 26)}}" for name in names)
        lines.append(f"{label:26}{cells}")
    groups = result.columns[names[-1]].get("accuracy")
    for group in groups.by_group if groups is not None else ():
        cells = "".join(f"{result.columns[name]['accuracy'].by_group[group]:>{max(width, 26)}.3f}" for name in names)
        lines.append(f"  {'accuracy, ' + group:24}{cells}")
    if result.change:
        lines.append(f"against {result.against}:")
        for group, value in result.change["accuracy"].by_group.items():
            flips = result.change["flips"].by_group[group]["value"]
            lines.append(
                f"  {group:24}accuracy {value['value']:+.4f} [{value['low']:+.4f}, {value['high']:+.4f}], "
                f"predictions changed {flips:.4f}"
            )
    return "\n".join(lines)


def _value(metric: MetricValue) -> str:
    if metric.value != metric.value:
        return "-"
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"
