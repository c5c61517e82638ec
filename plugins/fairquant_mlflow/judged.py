"""What became of a run, in words and as metrics: its description, and the limits of the recipe's section `accept`."""

from __future__ import annotations

from collections import Counter

from fairquant.recipe.events import Report
from fairquant.report.answer import answer_sentence, cells_sentences, points, size
from fairquant.report.words import in_float_text
from fairquant_mlflow.store import LONGEST


def description(report: Report) -> str:
    """Markdown for MLflow's description of the run: the answer first, then who lost what, the whole, bits and bytes."""
    lines = [f"- {sentence}" for sentence in cells_sentences(report["cells"], report["accept"])] + [
        *_accuracy(report),
        *_worst(report),
    ]
    lines.append(
        f"- {report['bits']['average']:.3f} bits per quantized weight on average{in_float_text(report['bits'])}; the file has "
        f"{size(report['artifact']['bytes'])}."
    )
    if "DEMO" in report["recipe"]:
        lines.append("- DEMO: synthetic images and a few epochs. The numbers mean nothing.")
    return "\n".join([f"**{answer_sentence(report['accept'])}**", "", *lines])[:LONGEST]


def _accuracy(report: Report) -> list[str]:
    after, change = report["metrics"].get("accuracy"), report["change"].get("accuracy")
    if after is None or change is None:
        return []
    span = f"95 % interval {points(change['low'], True)} to {points(change['high'], True)}"
    return [
        f"- Accuracy {points(after['value'])} %, {points(change['value'], True)} points against full precision ({span})."
    ]


def _worst(report: Report) -> list[str]:
    metric = report["metrics"].get("worst-group-accuracy")
    before = report["baseline"]["metrics"].get("worst-group-accuracy")
    known = {name: value for name, value in (metric["by_group"] if metric else {}).items() if value is not None}
    if not known:
        return []
    worst = min(known, key=lambda name: known[name])
    was = f", {points(before['by_group'].get(worst))} % before" if before else ""
    return [f"- The worst-served group is '{worst}': accuracy {points(known[worst])} %{was}."]


def limits(report: Report) -> dict[str, float | None]:
    """Two metrics for each limit of `accept`: what was measured, and the limit."""
    accept = report["accept"]
    values: dict[str, float | None] = {}
    times = Counter(limit["name"] for limit in accept["limits"])
    for limit in accept["limits"]:
        shared = times[limit["name"]] > 1  # the same quantity limited in two ways
        what = limit["name"].replace("'", "")  # MLflow takes no quotation marks
        name = f"accept/{what} {limit['kind']}" if shared else f"accept/{what}"
        values |= {name: limit["value"], f"{name}/limit": limit["limit"]}
    return values
