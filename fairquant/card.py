"""The model card that goes with every artifact: Markdown with Hugging Face's metadata header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairquant.recipe.schema import Recipe

SHOWN = (
    "accuracy",
    "balanced-accuracy",
    "worst-group-accuracy",
    "accuracy-gap",
    "eopp1",
    "eodd",
    "worst-group-auc",
    "ece",
)


def model_card(recipe: Recipe, report: Mapping[str, Any], verdict: Sequence[str], notes: Sequence[str]) -> str:
    """What it is for, what it was made from, what was measured on whom, what compression changed for whom, its limits."""
    from fairquant.audit.verdict import budget_text  # not at the top: the command line starts without torch

    dataset, counts = report["dataset"], report["dataset"]["counts"]
    trained = "not trained after quantization" if recipe.train.post_training else f"{recipe.train.epochs} epochs"
    groups = "\n".join(
        f"| {name} | {each['train']} | {each['validation']} | {each['test']} |"
        for name, each in counts["groups"].items()
    )
    rows = "\n".join(
        f"| {label} | {_value(report['baseline']['metrics'][label])} | {_value(report['metrics'][label])} |"
        for label in SHOWN
        if label in report["metrics"]
    )
    change = report["change"]["accuracy"]["by_group"]
    harm = report["change"]["harmful_flips"]["by_group"]
    by_group = "\n".join(
        f"| {group} | {_signed(value)} | {_share(harm[group]['value'])} |" for group, value in change.items()
    )
    demo = "\n**DEMO: synthetic images and a few epochs. The numbers mean nothing.**\n" if recipe.demo else ""
    limits = "\n".join(f"- {note}" for note in notes) or "- None were noted while it was made."
    return f"""---
library_name: fairquant
pipeline_tag: image-classification
tags: [quantization, fairness, medical-imaging, {recipe.model.name}]
datasets: [{dataset["name"]}]
metrics: [accuracy]
---

# {recipe.model.name} at {report["bits"]["average"]:.2f} bits per weight
{demo}
{chr(10).join(verdict)}

## Intended use

Research on the classification of images like those it was trained on, and on what compression does to subgroups. It is
no medical device and has not been evaluated for clinical use. Do not use it on people unlike those in the table below
without an audit of your own.

## Data

{dataset["name"]}, groups by {", ".join(dataset["attributes"])}; classes: {", ".join(dataset["classes"])}.

| group | train | validation | test |
|---|---|---|---|
{groups}

## How it was made

Method `{report["method"]}`, seed {report["seed"]}, {trained}; budget {budget_text(report["budget"]) or "none"},
{report["bits"]["average"]:.3f} bits per weight, {report["artifact"]["bytes"] / 1e6:.2f} MB.
The whole recipe is in the file's metadata.

## Audit on test images, with 95 % intervals

| | full precision | this model |
|---|---|---|
{rows}

## What compression changed, for whom

| group | change of accuracy | right before, wrong now |
|---|---|---|
{by_group}

## Limits

{limits}
- Intervals speak of other test images of the same kind, not of other hospitals, cameras or people.
- Groups are those that the data name; who is in none of them was not looked at.
"""


def _value(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "-"
    interval = f" [{metric['low']:.3f}, {metric['high']:.3f}]" if metric["low"] is not None else ""
    return f"{metric['value']:.3f}{interval}"


def _signed(value: Mapping[str, Any]) -> str:
    return "-" if value["value"] is None else f"{value['value']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
