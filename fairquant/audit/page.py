"""report.html: one page that needs nothing else. The verdict in words comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import torch
import yaml

from fairquant.audit import plots
from fairquant.audit.evaluate import group_intervals
from fairquant.audit.verdict import budget_text, points, size, verdict
from fairquant.recipe.schema import Recipe
from fairquant.roles import BitPlan, MetricValue

if TYPE_CHECKING:
    from fairquant.results import Results

STYLE = """
:root{color-scheme:light}
body{font:16px/1.55 system-ui,'Segoe UI',Helvetica,Arial,sans-serif;color:#1b1f24;background:#f4f5f7;margin:0}
main{max-width:860px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.55rem;margin:.2rem 0}h2{font-size:1.12rem;margin:0 0 .6rem}
section{background:#fff;border:1px solid #dfe3e8;border-radius:10px;padding:18px 22px;margin:16px 0}
.verdict li{margin:.35rem 0}.verdict li:first-child{font-weight:600}.muted{color:#5b6570;font-size:.9rem}
.demo{background:#fff3cd;border-color:#e0b84c;font-weight:600}
table{border-collapse:collapse;width:100%;font-size:.87rem}.scroll{overflow-x:auto}
th,td{text-align:right;padding:4px 7px;border-bottom:1px solid #e8ebee;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:#5b6570;font-weight:600}
svg{max-width:100%;height:auto}pre{background:#f4f5f7;padding:12px;border-radius:6px;overflow-x:auto;font-size:.8rem}
summary{cursor:pointer;font-weight:600}
"""


def render_page(recipe: Recipe, report: Mapping[str, Any], results: Results, messages: Sequence[str]) -> str:
    """The whole page as text."""
    sections = [
        _section("What happened", _list(verdict(report, results.full_bytes)) + _note(_fairness(recipe)), "verdict"),
        _section("Accuracy by group, before and after", _accuracy(results, recipe.seed)),
        _section("Answers that changed", _flips(report)),
        _section("All metrics", _metrics(results)),
    ]
    if results.plan is not None:
        sections.append(_section("Bits per layer", _bits(results.plan, report, results.bops)))
    sections += [
        _section("Size", _size(report, results)),
        _section("Data", _data(report, messages)),
        _section("Settings", _settings(recipe, report)),
    ]
    demo = (
        "<section class='demo'>DEMO: synthetic images and a few epochs. The numbers mean nothing.</section>"
        if recipe.demo
        else ""
    )
    title = f"{recipe.name} · {recipe.method} · seed {recipe.seed}"
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>FairQuant: {escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<p class='muted'>FairQuant audit</p><h1>{escape(title)}</h1>{demo}{''.join(sections)}</main></body></html>\n"
    )


def _fairness(recipe: Recipe) -> str:
    """What the comparison with full precision compares."""
    if recipe.train.post_training:
        return "Quantized after training: the full-precision model's weights, nothing trained further."
    return (
        f"This model was trained for {recipe.train.epochs} more epochs than the full-precision one it is compared with; "
        "method=fp32 shows what the same epochs do without quantization."
    )


def _section(title: str, body: str, kind: str = "") -> str:
    return f"<section class='{kind}'><h2>{escape(title)}</h2>{body}</section>"


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _note(text: str) -> str:
    return f"<p class='muted'>{escape(text)}</p>"


def _accuracy(results: Results, seed: int) -> str:
    before, after = group_intervals(results.before, seed), group_intervals(results.after, seed)
    plot = plots.accuracy_by_group(before, after, results.audit.images)
    change = results.audit.change["accuracy"].by_group
    rows = [
        [
            name, str(results.audit.images[name]), _span(before[name]), _span(after[name]),
            f"{points(change[name]['value'], True)} [{points(change[name]['low'], True)}, {points(change[name]['high'], True)}]",
        ]
        for name in after
    ]  # fmt: skip
    head = ["group", "test images", "full precision [%]", "this model [%]", "change [points]"]
    return (
        plot
        + _table(head, rows)
        + _note(
            "Square brackets: 95 % bootstrap intervals over images. The change is paired: both models on the same images."
        )
    )


def _span(values: tuple[float, float, float]) -> str:
    value, low, high = values
    return f"{points(value)} [{points(low)}, {points(high)}]"


def _flips(report: Mapping[str, Any]) -> str:
    change = report["change"]
    return plots.flips_by_group(change["flips"]["by_group"], change["harmful_flips"]["by_group"])


def _metrics(results: Results) -> str:
    rows = []
    for label, metric in results.audit.metrics.items():
        before = results.audit.baseline[label]
        rows.append([label, _value(before), _value(metric), _number(metric.null), str(metric.skipped or "")])
    head = ["metric", "full precision", "this model", "null floor", "cells skipped"]
    return _table(head, rows) + _note(
        "Null floor: the mean value of a gap when the groups are shuffled over the same images; a gap near it says nothing "
        "about groups. Gaps are under the 'valid' convention unless named otherwise (-fairprune, -fairquant); cells with "
        "fewer images than min_support are left out and counted."
    )


def _value(metric: MetricValue) -> str:
    if metric.value != metric.value:
        return "not defined"
    return f"{metric.value:.3f} [{_number(metric.low)}, {_number(metric.high)}]"


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.3f}"


def _bits(plan: BitPlan, report: Mapping[str, Any], bops: tuple[int, int] | None) -> str:
    names = list(plan.bits)
    shares = []
    for bits in plan.bits.values():
        values, counts = torch.unique(bits, return_counts=True)
        shares.append({int(v): int(c) / len(bits) for v, c in zip(values, counts, strict=True)})
    averages = [float(bits.double().mean()) for bits in plan.bits.values()]
    text = f"{report['bits']['average']:.3f} bits per weight on average, budget {budget_text(report['budget'])}"
    if "nominal_bits" in report["budget"]:
        text += f", nominal {report['budget']['nominal_bits']:g}"
    if report["bits"].get("moved"):
        text += (
            f"; {100 * report['bits']['moved']:.1f} % of the units moved off the starting plan while bits were learnt"
        )
    if report["optimality"]:
        text += f"; the starting plan is proven within {max(100 * report['optimality']['gap'], 0.001):.3f} % of the best possible"
    if bops is not None:
        text += (
            f"; {bops[0] / 1e9:.3g} billion bit operations an image ({100 * bops[0] / bops[1]:.1f} % of full precision)"
        )
    if "latency_ms" in report["bits"]:
        text += f"; {report['bits']['latency_ms']:.3g} ms in the quantized layers by the latency table"
    return _note(text + ". Every unit is in bit_plan.csv.") + plots.bits_per_layer(names, shares, averages)


def _size(report: Mapping[str, Any], results: Results) -> str:
    artifact, weight_bytes = report["artifact"]["bytes"], report["bits"]["weight_bytes"]
    rows = [
        ["this file, everything counted", size(artifact)],
        ["of it: weights at their bits", size(weight_bytes)],
        ["of it: scales, unquantized state, header", size(artifact - weight_bytes)],
        ["the same model in float32", size(results.full_bytes)],
    ]
    return _table(["", "size"], rows) + _note(f"sha256 {report['artifact']['sha256']}")


def _data(report: Mapping[str, Any], messages: Sequence[str]) -> str:
    dataset = report["dataset"]
    counts = dataset["counts"]
    parts = ["train", "validation", "test"]
    rows = [["all", *(str(counts[part]) for part in parts)]]
    for kind in ("groups", "labels"):
        rows += [[f"{kind[:-1]} {name}", *(str(each[part]) for part in parts)] for name, each in counts[kind].items()]
    notes = f"<p>Notes:</p>{_list(messages)}" if messages else ""
    return _table([f"{dataset['name']}, by {', '.join(dataset['attributes'])}", *parts], rows) + notes


def _settings(recipe: Recipe, report: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in report["timings"].items())
    return (
        f"<details><summary>The resolved recipe</summary><pre>{escape(text)}</pre></details>"
        + _note(f"Took: {seconds}")
        + _note(f"Versions: {versions}")
    )
