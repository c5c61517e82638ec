"""fairquant run: one recipe, one seed, to the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairquant.cli.options import Demo, Overrides, RecipeArgument, Runs, Strict

if TYPE_CHECKING:
    from fairquant.cli.display import Bars
    from fairquant.recipe.events import Report

MOST_LIMITS = 8  # of broken ones that are shown


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    demo: Demo = False,
    runs: Runs = None,
    strict: Strict = False,
    show_images: Annotated[
        bool, typer.Option("--show-images", help="Show the listed test images on report.html. They may show patients.")
    ] = False,
) -> None:
    """Run a recipe: baseline, importance, bits, training, audit, small model. Resumes an interrupted run."""
    from fairquant.cli.display import Bars

    bars = Bars()
    with bars:
        bars.say("loading ...")
        from fairquant.api import run as run_recipe

        result = run_recipe(recipe, *(overrides or []), demo=demo, runs=runs, display=bars)
        if show_images:
            _show_images(result.folder, bars)
    if os.environ.get("RANK", "0") != "0":
        return  # under torchrun only rank 0 prints
    if result.was_finished:
        bars.say("already finished; results from its folder")
    print(summary(result.report))
    print(f"report  {result.folder / 'report.html'}")
    print(f"model   {result.folder / 'model.safetensors'}")
    if strict:
        exit_by(result.report["accept"]["answer"])


def _show_images(folder: Path, bars: Bars) -> None:
    """Put the pictures on the page of a finished run."""
    from fairquant.recipe import read_recipe
    from fairquant.registry import discover
    from fairquant.report.pictures import show_images
    from fairquant.runs.data import load_data

    registry = discover().registry
    recipe = read_recipe(folder / "recipe.yaml", registry=registry)
    show_images(folder / "report.html", load_data(recipe, bars, registry).test.images)


def exit_by(answer: str) -> None:
    """--strict: 0 for PASS, 3 for FAIL, 4 for CANNOT TELL."""
    from fairquant.report.answer import EXIT_CODES

    if code := EXIT_CODES[answer]:
        raise typer.Exit(code)


def summary(report: Report) -> str:
    """The result on one screen, the answer first."""
    from fairquant.recipe.schema import DEFAULT_METRICS
    from fairquant.report.answer import answer_sentence, cells_sentences, limit_words
    from fairquant.report.words import budget_text, decided_sentence, in_float_text

    bits, artifact, change = report["bits"], report["artifact"], report["change"]
    budget = budget_text(report["budget"])
    allowed = f" (budget {budget})" if budget else ""
    limits = report["accept"]["limits"]
    lines = [
        answer_sentence(report["accept"]),
        *(f"  FAIL  {limit_words(each)}" for each in limits[:MOST_LIMITS] if each["answer"] == "FAIL"),
        *decided_sentence(report),
        *cells_sentences(report["cells"], report["accept"]),
        f"{report['recipe']} · {report['method']} · seed {report['seed']}",
        f"bits    {bits['average']:.3f} per quantized weight{allowed}{in_float_text(bits)}, file {artifact['bytes'] / 1e6:.2f} MB",
    ]
    usual = {metric["name"] for metric in DEFAULT_METRICS}
    own = [label for label in report["metrics"] if not any(label.startswith(name) for name in usual)]
    for label in ("accuracy", "worst-group-accuracy", "accuracy-gap", "eodd", *own):
        after, before = report["metrics"].get(label), report["baseline"]["metrics"].get(label)
        if after is None or before is None or after["value"] is None or before["value"] is None:
            continue
        interval = f"[{after['low']:.3f}, {after['high']:.3f}]" if after["low"] is not None else ""
        lines.append(f"{label:21} {before['value']:.3f} -> {after['value']:.3f} {interval}")
    for group, value in change["accuracy"]["by_group"].items():
        flips = change["harmful_flips"]["by_group"][group]["value"]
        if value["value"] is not None:
            lines.append(
                f"  {group:19} accuracy {value['value']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}], "
                f"newly misclassified {100 * (flips or 0.0):.1f} %"
            )
    return "\n".join(lines)
