"""The audit in words: what a reader should know before any number or plot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def verdict(report: Mapping[str, Any], full_bytes: int) -> list[str]:
    """Sentences, the most important first. Claims only what the intervals carry."""
    found = [_size(report, full_bytes), _overall(report), _worst(report), *_groups(report)]
    return [sentence for sentence in found if sentence]


def points(share: float | None, signed: bool = False) -> str:
    """A share as percentage points."""
    if share is None or math.isnan(share):
        return "unknown"
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"


def size(count: float) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def budget_text(budget: Mapping[str, Any]) -> str:
    """What report.json's budget allows, in words; empty in full precision."""
    bits, size_bytes, bops, latency = (
        budget.get(name) for name in ("average_bits", "size_bytes", "bops", "latency_ms")
    )  # fmt: skip
    parts = [
        "" if bits is None else f"{bits:g}",
        "" if size_bytes is None else f"{size(size_bytes)} in all",
        "" if bops is None else f"{bops / 1e9:.3g} billion bit operations an image",
        "" if latency is None else f"{latency:g} ms in the quantized layers",
    ]
    return " and ".join(part for part in parts if part)


def _size(report: Mapping[str, Any], full_bytes: int) -> str:
    bits, budget, artifact = report["bits"], report["budget"], report["artifact"]
    if not budget_text(budget):
        return f"Full precision, not quantized: the file has {size(artifact['bytes'])}."
    ratio = full_bytes / artifact["bytes"]
    return (
        f"The model has {bits['average']:.3f} bits per weight on average, within its budget of "
        f"{budget_text(budget)}. The file has {size(artifact['bytes'])}, {ratio:.1f} times smaller than "
        f"{size(full_bytes)} in float32."
    )


def _overall(report: Mapping[str, Any]) -> str:
    change = report["change"]["accuracy"]
    before, after = report["baseline"]["metrics"].get("accuracy"), report["metrics"].get("accuracy")
    if before is None or after is None:
        return ""
    span = f"{points(change['value'], True)} points (95 % interval {points(change['low'], True)} to {points(change['high'], True)})"
    if change["high"] < 0:
        judged = f"Compression cost accuracy: {span}"
    elif change["low"] > 0:
        judged = f"Accuracy rose: {span}"
    else:
        judged = f"No change of accuracy that these test images can show: {span}"
    return f"{judged}, from {points(before['value'])} % to {points(after['value'])} %."


def _worst(report: Mapping[str, Any]) -> str:
    after, before = (
        report["metrics"].get("worst-group-accuracy"),
        report["baseline"]["metrics"].get("worst-group-accuracy"),
    )
    if not after or not after["by_group"] or after["value"] is None:
        return ""
    known = {name: value for name, value in after["by_group"].items() if value is not None}
    name = min(known, key=lambda group: known[group])
    was = f", before {points(before['by_group'].get(name))} %" if before else ""
    return (
        f"The worst-served group is '{name}' with {points(known[name])} % right{was} "
        f"(worst-group interval {points(after['low'])} to {points(after['high'])} %)."
    )


def _groups(report: Mapping[str, Any]) -> list[str]:
    change = report["change"]["accuracy"]["by_group"]
    hurt = [name for name, value in change.items() if value["high"] is not None and value["high"] < 0]
    sentences = [
        f"Group '{name}' lost {points(-change[name]['value'])} points of accuracy "
        f"({points(-change[name]['high'])} to {points(-change[name]['low'])})."
        for name in hurt
    ]
    if not hurt:
        sentences.append("No group lost accuracy beyond what chance explains on these images.")
    harmful = report["change"]["harmful_flips"]["by_group"]
    known = {name: value["value"] for name, value in harmful.items() if value["value"] is not None}
    if known:
        most = max(known, key=lambda group: known[group])
        sentences.append(
            f"Answers that were right and are wrong now are most frequent in '{most}': {points(known[most])} % of its images."
        )
    return sentences
