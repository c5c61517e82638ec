"""The data of a comparison: cells by name, differences that are significant, the best of a column."""

from __future__ import annotations

import math

import pytest
from helpers.reports import comparison_of, failed_row, row

from fairquant.recipe import read_recipe
from fairquant.report.comparison import Cell, Difference, Subject

OWN = Subject("quickstart")


def test_a_cell_is_named_by_method_and_budget_and_says_how_to_run_it():
    assert (Cell(OWN, "fq-baq", 2.5, 0).row, Cell(OWN, "fp32", None, 0).row) == ("fq-baq @ 2.5", "fp32")
    assert Cell(OWN, "fq-baq", 3.0, 7).overrides == ("method=fq-baq", "seed=7", "budget.average_bits=3")
    assert Cell(OWN, "fp32", None, 7).overrides == ("method=fp32", "seed=7")
    assert Cell(Subject("quickstart", "resnet18"), "fp32", None, 7).overrides == (
        "model.name=resnet18",
        "method=fp32",
        "seed=7",
    )


@pytest.mark.parametrize(
    ("low", "high", "significant"), [(-0.2, -0.1, True), (0.1, 0.2, True), (-0.1, 0.1, False), (0.0, 0.2, False)]
)
def test_a_difference_is_significant_where_its_interval_excludes_zero(low, high, significant):
    assert Difference((low + high) / 2, low, high).significant is significant


def test_the_best_is_lowest_where_lower_is_better_and_never_full_precision(registry):
    comparison = comparison_of(
        read_recipe("quickstart", registry=registry),
        row("fp32", 0.99),
        row("a", 0.7),
        row("b", 0.8),
        failed_row("c", "x"),
    )
    assert comparison.best("accuracy") == pytest.approx(0.8)
    assert comparison.best("accuracy-gap") == pytest.approx(0.2)


def test_without_a_quantized_method_there_is_no_best(registry):
    assert math.isnan(comparison_of(read_recipe("quickstart", registry=registry), row("fp32")).best("accuracy"))


@pytest.mark.parametrize(
    ("answers", "worst"), [(("PASS", "CANNOT TELL", "FAIL"), "FAIL"), (("PASS", "CANNOT TELL"), "CANNOT TELL"), (("PASS",), "PASS"), ((), "")]
)  # fmt: skip
def test_a_row_has_the_worst_answer_of_its_seeds(answers, worst):
    assert row("a", answers=answers).answer == worst
