"""What became of a run, in words and as metrics: its description, and the limits of the recipe's section `accept`."""

from __future__ import annotations

from collections import Counter

from fairquant.recipe.events import LimitReport, Report
from fairquant.report.words import points, size
from fairquant_mlflow.store import LONGEST


def description(report: Report) -> str:
    """Markdown for MLflow's description of the run: the answer first, then accuracy, the worst group, bits and bytes."""
    lines = [*_answer(report), *_accuracy(report), *_worst(report)]
    lines.append(
        f"- {report['bits']['average']:.3f} bits per weight on average; the file has {size(report['artifact']['bytes'])}."
    )
    if "DEMO" in report["recipe"]:
        lines.append("- DEMO: synthetic images and a few epochs. The numbers mean nothing.")
    return "\n".join(lines)[:LONGEST]


def _answer(report: Report) -> list[str]:
    accept = report.get("accept")
    if accept is None:
        return []
    open_limits = [limit for limit in accept["limits"] if limit["answer"] != "PASS"]
    return [f"**{accept['answer']}**", "", *(f"- {limit['answer']}: {_limit(limit)}" for limit in open_limits)]


def _limit(limit: LimitReport) -> str:
    images, more = f"{limit['images']} images", limit["more_images"]
    wanted = "" if more is None else f"; about {more} more would be needed to tell"
    value = "unknown" if limit["value"] is None else f"{limit['value']:.4g}"
    return f"{limit['name']} is {value}, the limit is {limit['limit']:g} ({limit['kind']}; {images}{wanted})."


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
    """Two metrics for each limit of `accept`: what was measured, and the limit; {} where the report has none."""
    accept = report.get("accept")
    if accept is None:
        return {}
    values: dict[str, float | None] = {}
    times = Counter(limit["name"] for limit in accept["limits"])
    for limit in accept["limits"]:
        shared = times[limit["name"]] > 1  # the same quantity limited in two ways
        name = f"accept/{limit['name']} {limit['kind']}" if shared else f"accept/{limit['name']}"
        values |= {name: limit["value"], f"{name}/limit": limit["limit"]}
    return values
