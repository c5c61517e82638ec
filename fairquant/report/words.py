"""The audit in sentences: what a reader should know before any number or plot."""

from __future__ import annotations

from fairquant.audit.scopes import ALL
from fairquant.recipe.events import BitsReport, BudgetReport, CellReport, Report
from fairquant.report.answer import answer_sentence, cells_sentences, points, size


def verdict(report: Report, full_bytes: int) -> list[str]:
    """Sentences, the most important first: the answer, who lost what, then the whole. Claims only what the intervals support."""
    sentences = [
        _answer(report), *decided_sentence(report),
        *cells_sentences(report["cells"], report["accept"]), _overall(report), _worst(report), *_groups(report),
        _size(report, full_bytes),
    ]  # fmt: skip
    return [sentence for sentence in sentences if sentence]


def _answer(report: Report) -> str:
    if not own_answers(report):
        return answer_sentence(report["accept"])
    return (
        "CANNOT TELL: no labels were given, so that no limit can be judged. Accuracy here is agreement with the full-precision model, "
        "on the images that this one was calibrated with."
    )


def own_answers(report: Report) -> bool:
    """Whether no labelled image was given."""
    return report["dataset"].get("labels") == "the model's own answers"  # runs of earlier versions do not say


def making_sentences(report: Report) -> list[str]:
    """How the plan was chosen and the weights were rounded; nothing where neither was done."""
    sentences = []
    if (fallback := report.get("fallback")) and "text" in fallback:
        sentences.append(f"Comparison of {fallback['text']}.")
    if (rounding := report.get("rounding")) and rounding["name"] != "nearest":
        learned, unchanged = rounding["blocks"]["learned"], rounding["blocks"]["unchanged"]
        blocks = f"; {learned} of {learned + unchanged} blocks learned as a whole" if learned + unchanged else ""
        sentences.append(
            f"Rounded by {rounding['name']} with {rounding['images']} calibration images and no labels: {rounding['compensated']} of "
            f"{rounding['layers']} layers with error compensation{blocks}."
        )
    return sentences


def budget_text(budget: BudgetReport) -> str:
    """What report.json's budget allows, in words; empty in full precision."""
    limits = []
    if (bits := budget["average_bits"]) is not None:
        limits.append(f"{bits:g}")
    if "size_bytes" in budget:
        limits.append(f"{size(budget['size_bytes'])} in all")
    if "bops" in budget:
        limits.append(f"{budget['bops'] / 1e9:.3g} billion bit operations an image")
    if "latency_ms" in budget:
        limits.append(f"{budget['latency_ms']:g} ms in the quantized layers")
    return " and ".join(limits)


def decided_sentence(report: Report) -> list[str]:
    """What is decided at the thresholds, in patients; nothing without an operating point."""
    point = report["operating_point"]
    if point is None:
        return []
    sensitivity, specificity = (
        next(each for each in point["rates"] if each["rate"].endswith(kind) and each["scope"] == ALL)
        for kind in (" sensitivity", " specificity")
    )
    before, after = [], []
    for verb, cell, whom in (
        ("finds", sensitivity, f"images of {' or '.join(point['classes'])}"), ("clears", specificity, "others"),
    ):  # fmt: skip
        if cell["images"]:
            before.append(f"{verb} {_of(cell['before'], cell)} of {cell['images']} {whom}")
            after.append(f"{verb} {_of(cell['after'], cell)}")
    if not before:
        return []
    return [f"At its threshold the full-precision model {' and '.join(before)}; this one {' and '.join(after)}."]


def _of(rate: float | None, cell: CellReport) -> str:
    return f"{(rate or 0.0) * cell['images']:.0f}"


def _size(report: Report, full_bytes: int) -> str:
    bits, budget, artifact = report["bits"], report["budget"], report["artifact"]
    if not budget_text(budget):
        return f"Full precision, not quantized: the file has {size(artifact['bytes'])}."
    ratio = full_bytes / artifact["bytes"]
    return (
        f"The model has {bits['average']:.3f} bits per quantized weight on average, within its budget of "
        f"{budget_text(budget)}{in_float_text(bits)}. The file has {size(artifact['bytes'])}, {_times(ratio)} "
        f"{size(full_bytes)} in float32."
    )


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times smaller than" if ratio >= 1 else f"{1 / ratio:.1f} times the"


def in_float_text(bits: BitsReport) -> str:
    """What the average does not count; "" where all weights are quantized."""
    left = sum(bits.get("in_float", {}).values())  # runs of earlier versions do not say
    if not left:
        return ""
    share = 100 * left / (left + sum(bits["histogram"].values()))
    return f"; {share:.1f} % of the weights stay in float32, {bits['average_all']:.3f} bits over all weights"


def _overall(report: Report) -> str:
    change = report["change"]["accuracy"]
    before, after = report["baseline"]["metrics"].get("accuracy"), report["metrics"].get("accuracy")
    if before is None or after is None:
        return ""
    low, high = change["low"], change["high"]
    span = f"{points(change['value'], True)} points (95 % interval {points(low, True)} to {points(high, True)})"
    course = f"from {points(before['value'])} % to {points(after['value'])} %"
    if high is not None and high < 0:
        return f"Compression reduced accuracy: {span}, {course}."
    if low is not None and low > 0:
        return f"Accuracy increased: {span}, {course}."
    return f"Accuracy changed by {span}, {course}: these images are compatible with every value in the interval."


def _worst(report: Report) -> str:
    after = report["metrics"].get("worst-group-accuracy")
    before = report["baseline"]["metrics"].get("worst-group-accuracy")
    if not after or not after["by_group"] or after["value"] is None:
        return ""
    known = {name: value for name, value in after["by_group"].items() if value is not None}
    name = min(known, key=lambda group: known[group])
    first = {group: value for group, value in (before["by_group"] if before else {}).items() if value is not None}
    was = ""
    if first:
        worst = min(first, key=lambda group: first[group])
        was = f", {points(first.get(name))} % before"
        was += "" if worst == name else f", when it was '{worst}' with {points(first[worst])} %"
    return (
        f"The worst-served group is '{name}' with an accuracy of {points(known[name])} %{was} "
        f"(interval of the worst group: {points(after['low'])} to {points(after['high'])} %)."
    )


def _groups(report: Report) -> list[str]:
    change = report["change"]["accuracy"]["by_group"]
    sentences = []
    for name, group in change.items():
        value, low, high = group["value"], group["low"], group["high"]
        if value is not None and low is not None and high is not None and high < 0:
            sentences.append(
                f"Group '{name}' lost {points(-value)} points of accuracy ({points(-high)} to {points(-low)})."
            )
    harmful = report["change"]["harmful_flips"]["by_group"]
    known = {name: group["value"] for name, group in harmful.items() if group["value"] is not None}
    if any(known.values()):
        most = max(known, key=lambda group: known[group] or 0.0)
        sentences.append(
            f"Newly misclassified images are most frequent in '{most}': {points(known[most])} % of its images."
        )
    return sentences
