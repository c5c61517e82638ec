"""report.html: the answer first, then the evidence, then technique; one file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml
from markupsafe import Markup

from fairquant.audit.cells import DECIDED, Cell, Cells, Rate
from fairquant.audit.change import group_intervals
from fairquant.audit.flips import Flip, flips_of, harmful_first
from fairquant.audit.operating import Decisions
from fairquant.recipe.events import IntervalReport, LimitReport, OperatingReport, Report
from fairquant.recipe.schema import Recipe
from fairquant.report import audit_plots, plots
from fairquant.report.answer import HOW, MEANINGS, limit_words, may_be_broken, needed, points, size
from fairquant.report.pages import templates
from fairquant.report.plots import Interval
from fairquant.report.words import budget_text, in_float_text, making_sentences, own_answers, verdict
from fairquant.roles import MetricValue, Predictions
from fairquant.runs.results import Results

SPLITS = ("train", "validation", "test")
#: Sentences on the first screen besides the reason of the answer; images whose answer changed that are listed.
FIRST, MOST_FLIPS = 2, 25
Rows = list[list[str]]


def run_page(recipe: Recipe, report: Report, results: Results, messages: Sequence[str]) -> str:
    """report.html. messages: notes of the run, such as dropped rows."""
    answer, *sentences = verdict(report, results.full_bytes)
    accept = report["accept"]
    page = {
        "kind": "audit", "narrow": True, "demo": recipe.demo, "title": f"{recipe.name} · {recipe.method} · seed {recipe.seed}",
        "answer": accept["answer"], "meaning": _meaning(report), "because": answer.partition(": ")[2],
        "first": sentences[:FIRST], "rest": sentences[FIRST:], "limits_plot": Markup(audit_plots.limits(accept["limits"])),
        "limits": [_limit_row(each) for each in _ordered(accept["limits"])], "how": HOW,
        "shown": audit_plots.shown_limits(accept["limits"]),
        "compared_with": _compared_with(recipe, report),
        "messages": messages,
    }  # fmt: skip
    page |= _evidence(recipe, report, results) | _technique(recipe, report, results)
    return templates().get_template("run.html").render(page)


def _meaning(report: Report) -> str:
    """The headline: a PASS does not stand alone where something was lost that no limit covers."""
    answer = report["accept"]["answer"]
    if own_answers(report):
        return "without labels no limit can be judged"
    if not report["accept"]["limits"]:
        return "no limit is named"
    if answer == "PASS" and report["cells"]["lost"]:
        return "every limit is kept, and something was lost that no limit covers"
    return MEANINGS[answer]


def _evidence(recipe: Recipe, report: Report, results: Results) -> dict[str, object]:
    """What the template shows of the test images."""
    change, test, cells = report["change"], results.test, results.audit.cells
    before, after = (group_intervals(each) for each in (test.before, test.after))
    flips, decided = flips_of(test.before, test.after), results.decisions is not None
    return {
        "class_head": ["rate", "class", "patients", "images", "full precision [%]", "this model [%]", "change [points]",],
        "classes": [_cell_row(cell) for cell in cells.cells if cell.after.images and _is_first(cell, cells)],
        "attributes": [_cell_row(cell) for cell in cells.cells if _kind(cell, cells) == "attribute" and cell.rate == "sensitivity"],
        "absent": sum(not cell.after.images for cell in cells.cells if cell.rate == "sensitivity"),
        "confusion": Markup(audit_plots.confusion(test.before, test.after)),
        "confusions": _confusions(test.before, test.after),
        "accuracy_plot": Markup(plots.accuracy_by_group(before, after, results.audit.images)),
        "accuracy": _accuracy_rows(report, results.audit.images, before, after),
        "flips_plot": Markup(plots.flips_by_group(change["flips"]["by_group"], change["harmful_flips"]["by_group"])),
        "flips": [(flip.row, _flip_row(flip, decided)) for flip in harmful_first(flips)[:MOST_FLIPS]],
        "flips_head": ["image", "group", "true class", "full precision", "this model", *(["decision"] if decided else [])],
        "harmed": _harmed(flips, decided),
        "reliability": Markup(audit_plots.reliability(test.before, test.after)),
        "risk": Markup(audit_plots.risk_coverage(test.before, test.after)),
        "metrics": _metric_rows(results),
        **_operating(report["operating_point"], results.decisions, test.before, test.after), "region": _region(recipe),
    }  # fmt: skip


def _confusions(before: Predictions, after: Predictions) -> list[tuple[str, Markup]]:
    """One picture a group, where there are few enough classes to see anything."""
    if len(after.class_names) > audit_plots.MOST_DRAWN:
        return []
    return [
        (name, Markup(audit_plots.confusion(before, after, number))) for number, name in enumerate(after.group_names)
    ]


def _is_first(cell: Cell, cells: Cells) -> bool:
    """Sensitivities of everyone, and the other rates of all images: the rest is in cells.csv."""
    kind = _kind(cell, cells)
    return (
        cell.rate not in DECIDED
        and kind != "attribute"
        and (cell.rate == "sensitivity" or kind == "all" or cell.significant)
    )


def _kind(cell: Cell, cells: Cells) -> str:
    return cells.scopes.kinds[cells.scopes.names.index(cell.scope)]


def _operating(
    point: OperatingReport | None, decisions: Decisions | None, before: Predictions, after: Predictions
) -> dict[str, object]:
    """Decisions at the thresholds; empty where the recipe has no operating point."""
    if point is None or decisions is None:
        return {"operating": None}
    rates = [_cell_row(cell) for cell in decisions.rates]
    rates = [[rate, scope, images, before, after, change] for rate, _, scope, images, before, after, change in rates]
    areas = [
        [each["kind"], each["scope"], f"{each['positives']} / {each['negatives']}",
         *(_area(span) for span in (each["before"], each["after"])),
         f"{_signed(each['change']['value'])} [{_signed(each['change']['low'])}, {_signed(each['change']['high'])}]"]
        for each in point["areas"]
    ]  # fmt: skip
    return {
        "operating": point, "rates": rates, "areas": areas, "roc": Markup(audit_plots.roc(before, after)),
        "classes_positive": ", ".join(point["classes"]),
    }  # fmt: skip


def _region(recipe: Recipe) -> str:
    """What partial areas are over."""
    point = recipe.operating_point
    if point is None:
        return ""
    return f"{'specificities' if point.sensitivity is None else 'sensitivities'} from {point.partial_from:g} to 1"


def _technique(recipe: Recipe, report: Report, results: Results) -> dict[str, object]:
    """What the template shows of bits, bytes, data and settings."""
    quantized = results.quantized
    return {
        "bits": _bits_text(report, results), "making": making_sentences(report),
        "bits_plot": Markup("" if quantized is None else plots.bits_per_layer(quantized.plan)),
        "sizes": _size_rows(report, results), "sha256": report["artifact"]["sha256"],
        "data_head": [f"{report['dataset']['name']}, by {', '.join(report['dataset']['attributes'])}", *SPLITS],
        "data": _data_rows(report), "recipe": yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True),
        "timings": ", ".join(f"{name} {value:.0f} s" for name, value in report["timings"].items()),
        "versions": ", ".join(f"{name} {number}" for name, number in report["versions"].items()),
    }  # fmt: skip


def _ordered(limits: Sequence[LimitReport]) -> list[LimitReport]:
    """As the report has them, but of those that cannot be judged the ones first that are beyond their limits."""
    beyond = may_be_broken(limits)
    rest = [each for each in limits if each not in beyond]
    failed = [each for each in rest if each["answer"] == "FAIL"]
    return [*failed, *beyond, *(each for each in rest if each["answer"] != "FAIL")]


def _limit_row(limit: LimitReport) -> list[str]:
    images = "" if limit["name"].startswith("file") else str(limit["images"])
    return [limit["answer"], limit_words(limit), images, needed(limit)]


def _cell_row(cell: Cell) -> list[str]:
    value, low, high = cell.change
    images = str(cell.after.images) if cell.rate != "ppv" else f"{cell.before.images} / {cell.after.images}"
    change = ("LOSS " if cell.significant else "") + _ends(value, low, high)
    return [cell.rate, cell.label, cell.scope, images, _rate(cell.before), _rate(cell.after), change]


def _rate(rate: Rate) -> str:
    return f"{points(rate.value)} [{points(rate.low)}, {points(rate.high)}]" if rate.images else "-"


def _ends(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or value != value:
        return "-"
    return f"{points(value, True)} [{points(low, True)}, {points(high, True)}]"


def _area(span: IntervalReport) -> str:
    if span["value"] is None:
        return "-"
    low, high = _number(span["low"]), _number(span["high"])
    return f"{_number(span['value'])}" + (f" [{low}, {high}]" if low else "")


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _harmed(flips: Sequence[Flip], decided: bool) -> str:
    """How many images are answered worse than before."""
    wrong = sum(flip.kind == "newly wrong" for flip in flips)
    text = f"{wrong} {'image is' if wrong == 1 else 'images are'} newly misclassified"
    if decided:
        missed, alarmed = (sum(flip.decision == kind for flip in flips) for kind in ("newly missed", "newly alarmed"))
        text += (
            f"; at the thresholds {missed} {'is' if missed == 1 else 'are'} newly missed and {alarmed} newly alarmed"
        )
    return text


def _flip_row(flip: Flip, decided: bool) -> list[str]:
    return [
        flip.id, flip.group, flip.label, f"{flip.before} ({100 * flip.probability_before:.0f} %)",
        f"{flip.after} ({100 * flip.probability_after:.0f} %)", *([flip.decision] if decided else []),
    ]  # fmt: skip


def _compared_with(recipe: Recipe, report: Report) -> str:
    """What the comparison with full precision compares."""
    rounding = report.get("rounding")
    if recipe.train.post_training and rounding is not None and rounding["compensated"]:
        return (
            f"Post-training quantization: the full-precision model's weights, rounded by {rounding['name']} so that the layers give "
            "what they gave on calibration images (scales and biases may have changed with them); no training with labels."
        )
    if recipe.train.post_training:
        return "Post-training quantization: the full-precision model's weights, without further training."
    return (
        f"This model was trained for {recipe.train.epochs} more epochs than the full-precision model it is compared with; "
        "method=fp32 shows the effect of the same epochs without quantization."
    )


def _accuracy_rows(
    report: Report, images: Mapping[str, int], before: Mapping[str, Interval], after: Mapping[str, Interval]
) -> list[list[str]]:
    rows = []
    for name, change in report["change"]["accuracy"]["by_group"].items():
        value, low, high = (points(each, True) for each in (change["value"], change["low"], change["high"]))
        rows.append([name, str(images[name]), _span(before[name]), _span(after[name]), f"{value} [{low}, {high}]"])
    return rows


def _span(values: Interval) -> str:
    value, low, high = values
    return f"{points(value)} [{points(low)}, {points(high)}]"


def _metric_rows(results: Results) -> list[list[str]]:
    rows = []
    for label, metric in results.audit.metrics.items():
        before, baseline = results.audit.baseline[label], _number(metric.permutation_baseline)
        rows.append([label, _value(before), _value(metric), baseline, str(metric.skipped or "")])
    return rows


def _value(metric: MetricValue) -> str:
    if metric.value != metric.value:
        return "not defined"
    return f"{metric.value:.3f} [{_number(metric.low)}, {_number(metric.high)}]"


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.3f}"


def _bits_text(report: Report, results: Results) -> str:
    bits, quantized = report["bits"], results.quantized
    if quantized is None:
        return ""
    text = f"{bits['average']:.3f} bits per quantized weight on average, budget {budget_text(report['budget'])}"
    text += in_float_text(bits)
    if "nominal_bits" in report["budget"]:
        text += f", nominal {report['budget']['nominal_bits']:g}"
    if bits.get("moved"):
        text += f"; {100 * bits['moved']:.1f} % of the units left the starting plan while bits were learned"
    if (gap := report["optimality"].get("gap")) is not None:
        text += f"; the starting plan is proven within {max(100 * gap, 0.001):.3f} % of the best possible"
    now, full = quantized.bops
    text += f"; {now / 1e9:.3g} billion bit operations an image ({100 * now / full:.1f} % of full precision)"
    if "latency_ms" in bits:
        text += f"; {bits['latency_ms']:.3g} ms in the quantized layers by the latency table"
    return text + ". Every unit is listed in bit_plan.csv."


def _size_rows(report: Report, results: Results) -> list[list[str]]:
    artifact, weight_bytes = report["artifact"]["bytes"], report["bits"]["weight_bytes"]
    return [
        ["this file, everything included", size(artifact)],
        ["of which: weights at their bits", size(weight_bytes)],
        ["of which: scales, unquantized state, header", size(artifact - weight_bytes)],
        ["the same model in float32", size(results.full_bytes)],
    ]


def _data_rows(report: Report) -> list[list[str]]:
    counts = report["dataset"]["counts"]
    rows = [["all", *(str(counts[split]) for split in SPLITS)]]
    for kind, noun in (("groups", "group"), ("labels", "label")):
        rows += [[f"{noun} {name}", *(str(each[split]) for split in SPLITS)] for name, each in counts[kind].items()]
    return rows
