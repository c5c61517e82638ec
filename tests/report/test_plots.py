"""The pictures of a report and a comparison: SVG with the data's own names, the same bytes for the same data."""

from __future__ import annotations

import torch
from helpers.reports import NAN, interval, row

from fairquant.report import plots
from fairquant.roles import BitPlan

SPANS = {"dark": (0.6, 0.5, 0.7), "light": (0.8, 0.7, 0.9)}


def test_accuracy_names_every_group_with_its_images():
    picture = plots.accuracy_by_group(SPANS, SPANS, {"dark": 7, "light": 130})
    assert picture.startswith("<svg")
    for text in ("dark", "7 images", "130 images", "full precision", "this model"):
        assert text in picture, text
    assert picture == plots.accuracy_by_group(SPANS, SPANS, {"dark": 7, "light": 130})


def test_a_group_without_images_has_a_row_and_no_point():
    spans = SPANS | {"none": (NAN, NAN, NAN)}
    assert "none" in plots.accuracy_by_group(spans, spans, {"dark": 7, "light": 130, "none": 0})
    undefined = {"none": interval(None, None, None)}
    assert "none" in plots.flips_by_group(undefined, undefined)


def test_a_name_of_hundreds_of_letters_is_no_warning_on_the_screen(recwarn):
    spans = {"x" * 300: (0.6, 0.5, 0.7), "light": (0.8, 0.7, 0.9)}
    assert "x" * 300 in plots.accuracy_by_group(spans, spans, {"x" * 300: 7, "light": 130})
    assert not recwarn.list


def test_every_layer_has_a_bar_with_its_average_bits():
    plan = BitPlan({"conv1": torch.tensor([2, 4]), "fc": torch.tensor([8, 8])}, {"conv1": 9, "fc": 20})
    picture = plots.bits_per_layer(plan)
    for text in ("conv1", ">3.0<", ">8.0<"):
        assert text in picture, text


def test_a_comparison_names_every_method_with_its_bits_and_full_precision_as_a_line():
    worst = row("fp32", bits=32.0).metrics["accuracy"]
    rows = [
        row(name, bits=bits, metrics={"worst-group-accuracy": worst}) for name, bits in (("fp32", 32.0), ("uniform-3", 3.0), ("fq-baq @ 1.5", 1.5))
    ]  # fmt: skip
    picture = plots.pareto(rows)
    for text in ("fp32", "uniform-3", "fq-baq", ">1.5<"):
        assert text in picture, text
    assert "dark" in plots.changes(rows)
    assert "conv1" in plots.bits_by_method(rows)
