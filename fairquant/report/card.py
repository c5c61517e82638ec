"""The model card that goes with every artifact: Markdown with Hugging Face's metadata header."""

from __future__ import annotations

import html
from collections.abc import Sequence

from fairquant.data.splits import TOO_FEW
from fairquant.data.unlabelled import OWN_ANSWERS
from fairquant.recipe.events import IntervalReport, MetricReport, Report
from fairquant.recipe.schema import Recipe
from fairquant.recipe.shipped import HasPrivateOptions
from fairquant.report.answer import HOW, limit_words, points, size
from fairquant.report.data import dropped
from fairquant.report.words import budget_text, in_float_text, making_sentences
from fairquant.roles import Splits

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


def model_card(recipe: Recipe, report: Report, verdict: Sequence[str], notes: Sequence[str]) -> str:
    """Intended use, data, method, audit, what compression changed for whom, limits."""
    return "\n".join(
        [_header(recipe, report), _summary(recipe, report, verdict), _data(recipe, report), _method(recipe, report), _audit(report),
         _change(report), _limits(notes)]
    )  # fmt: skip


def _header(recipe: Recipe, report: Report) -> str:
    return f"""---
library_name: fairquant
pipeline_tag: image-classification
tags: [quantization, fairness, medical-imaging, {recipe.model.name}]
datasets: [{report["dataset"]["name"]}]
metrics: [accuracy]
---
"""


def _summary(recipe: Recipe, report: Report, verdict: Sequence[str]) -> str:
    demo = "\n**DEMO: synthetic images and a few epochs. The numbers mean nothing.**\n" if recipe.demo else ""
    sentences = "\n".join(_name(each) for each in verdict)
    return f"""# {recipe.model.name} at {report["bits"]["average_all"]:.2f} bits per weight
{demo}
{sentences}

## Intended use

Research on the classification of images like those that the model was trained on, and on the effect of compression on
subgroups. It is not a medical device and has not been evaluated for clinical use. Do not use it on people unlike those in
the table below without an audit of your own.
"""


def _data(recipe: Recipe, report: Report) -> str:
    dataset, value = report["dataset"], recipe.dataset.value
    # the names of a user's own columns stay at home
    named = isinstance(value, HasPrivateOptions) and "attributes" not in value.private
    by = f"groups by {', '.join(map(_name, dataset['attributes']))}; " if named else ""
    groups = "\n".join(
        f"| {_name(name)} | {each['train']} | {each['validation']} | {each['test']} |"
        for name, each in dataset["counts"]["groups"].items()
    )
    return f"""## Data

{dataset["name"]}, {by}classes: {", ".join(map(_name, dataset["classes"]))}.

| group | train | validation | test |
|---|---|---|---|
{groups}
"""


def _method(recipe: Recipe, report: Report) -> str:
    rounding = report.get("rounding")
    untrained = "not trained with labels" if rounding and rounding["compensated"] else "not trained after quantization"
    trained = untrained if recipe.train.post_training else f"{recipe.train.epochs} epochs"
    making = "".join(f"\n{sentence}" for sentence in making_sentences(report))
    return f"""## How it was made

Method `{report["method"]}`, seed {report["seed"]}, {trained}; budget {budget_text(report["budget"]) or "none"},
{report["bits"]["average"]:.3f} bits per quantized weight{in_float_text(report["bits"])}, {size(report["artifact"]["bytes"])}.{making}
The recipe, without where its data lie, is in the file's metadata.
"""


def _audit(report: Report) -> str:
    before, after = report["baseline"]["metrics"], report["metrics"]
    rows = "\n".join(
        f"| {label} | {_value(before[label])} | {_value(after[label])} |" for label in SHOWN if label in after
    )
    return f"""## Audit on test images, with 95 % intervals

| | full precision | this model |
|---|---|---|
{rows}
"""


def _change(report: Report) -> str:
    harm = report["change"]["harmful_flips"]["by_group"]
    rows = "\n".join(
        f"| {_name(group)} | {_signed(value)} | {points(harm[group]['value'])} % |"
        for group, value in report["change"]["accuracy"]["by_group"].items()
    )
    limits = "\n".join(f"| {limit['answer']} | {_name(limit_words(limit))} |" for limit in report["accept"]["limits"])
    return f"""## What compression changed, for whom

| answer | limit |
|---|---|
{limits}

{HOW}

| group | change of accuracy | newly misclassified |
|---|---|---|
{rows}
"""


def _limits(notes: Sequence[str]) -> str:
    listed = "\n".join(f"- {_name(note)}" for note in notes) or "- None were noted during the run."
    return f"""## Limits

{listed}
- Intervals are about other test images of the same kind, not about other hospitals, cameras or people.
- Groups are those that the data name; anyone outside them was not examined.
"""


def shipped_notes(recipe: Recipe, splits: Splits, messages: Sequence[str]) -> list[str]:
    """What a run said, for a card that leaves the house: notes on data name files and patients, and are left out; how many rows were
    dropped, and which groups are small, is kept."""
    of_data = set(splits.notes)
    kept = [
        note for note in messages if note not in of_data or note.startswith((TOO_FEW, OWN_ANSWERS, "class ", "group "))
    ]
    weights = recipe.model.weights
    kept = [note if weights is None else note.replace(weights, "(a file)") for note in kept]
    return [*kept, *(f"{number} {text} were left out" for text, number in dropped(splits))]


def _name(text: object) -> str:
    """A name out of the data, as Markdown shows it: no tags, no cells of tables, no new lines."""
    return " ".join(html.escape(str(text), quote=False).replace("|", "\\|").split())


def _value(metric: MetricReport) -> str:
    if metric["value"] is None:
        return "-"
    interval = f" [{metric['low']:.3f}, {metric['high']:.3f}]" if metric["low"] is not None else ""
    return f"{metric['value']:.3f}{interval}"


def _signed(change: IntervalReport) -> str:
    return "-" if change["value"] is None else f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
