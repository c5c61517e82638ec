"""The comparison's table: its cells, in Markdown and in LaTeX."""

from __future__ import annotations

import pytest
from helpers.reports import comparison_of, failed_row, row

from fairquant.recipe import read_recipe
from fairquant.report.comparison import Difference
from fairquant.report.tables import entries, header, latex, markdown, notes, number, permutation_entries

LOST = Difference(-0.05, -0.08, -0.02)


@pytest.fixture
def comparison(registry):
    return comparison_of(
        read_recipe("quickstart", registry=registry), row("fp32", 0.9, 32.0), row("fq-baq @ 3", 0.85, against=Difference(-0.02, -0.05, 0.01)),
        row("uniform-3", 0.8, against=LOST), failed_row("hawq @ 1_5", "seed 0: cannot meet the budget"),
    )  # fmt: skip


def test_the_header_says_which_way_is_better(comparison):
    assert header(comparison) == ["method", "accept", "bits", "MB", "accuracy ↑", "accuracy-gap ↓"]


def test_a_cell_is_the_mean_with_the_deviation_over_seeds_where_there_are_several(comparison):
    texts = [entry.text for entry in entries(comparison, comparison.rows[1])]
    assert texts == ["CANNOT TELL", "3.00", "1.25", "0.850 ± 0.010", "0.150"]


def test_the_best_is_a_quantized_method_and_marks_need_an_interval_without_zero(comparison):
    cells = {each.name: entries(comparison, each)[3] for each in comparison.rows}
    assert [name for name, cell in cells.items() if cell.best] == ["fq-baq @ 3"]
    assert [name for name, cell in cells.items() if cell.significant] == ["uniform-3"]


def test_a_method_without_runs_has_dashes_and_its_problem_in_the_notes(comparison):
    assert [entry.text for entry in entries(comparison, comparison.rows[3])] == ["-"] * 5
    assert notes(comparison)[-1] == "hawq @ 1_5: seed 0: cannot meet the budget"


def test_only_gaps_have_a_permutation_baseline(comparison):
    assert [entry.text for entry in permutation_entries(comparison)] == ["", "", "", "", "0.030"]


def test_markdown_marks_the_best_bold_and_differences_with_a_star(comparison):
    lines = markdown(comparison).splitlines()
    assert lines[3] == "| fq-baq @ 3 | CANNOT TELL | 3.00 | 1.25 | **0.850 ± 0.010** | **0.150** |"
    assert lines[4] == r"| uniform-3 | CANNOT TELL | 3.00 | 1.25 | 0.800 ± 0.010\* | 0.200 |"
    assert lines[6] == "| permutation baseline |  |  |  |  | 0.030 |"


def test_latex_escapes_and_has_as_many_columns_everywhere(comparison):
    lines = [line for line in latex(comparison).splitlines() if line.endswith(r"\\")]
    assert [line.count("&") for line in lines] == [5] * 6
    assert r"hawq @ 1\_5" in latex(comparison)
    assert r"\textbf{0.850 $\pm$ 0.010}" in latex(comparison)
    assert "0.800 $\\pm$ 0.010$^*$" in latex(comparison)


def test_the_notes_say_what_is_compared_with_what(registry):
    recipe = read_recipe("quickstart", registry=registry, demo=True)
    several = comparison_of(recipe, row("fq-baq @ 2"), row("fq-baq @ 3"), references=("fq-baq @ 2", "fq-baq @ 3"))
    text = "\n".join(notes(several))
    assert text.startswith("DEMO")
    assert "differs from fq-baq at the same budget" in text
    assert "seeds 0, 1" in text


def test_an_undefined_number_is_a_dash():
    assert (number(float("nan"), 2), number(0.5, 2)) == ("-", "0.50")
