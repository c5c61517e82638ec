"""report.html, compare.html, study.html, diffs: single files without a network, with nothing of the data taken for markup."""

from __future__ import annotations

import re

import pytest
from helpers.reports import comparison_of, diff_of, failed_row, row, summary_of, trial, unpaired

from fairquant.recipe import read_recipe
from fairquant.recipe.search import Objective, Parameter, Search
from fairquant.report.pages import comparison_page, diff_page, study_page

SECTION = Search(
    parameters=(Parameter(path="budget.average_bits", low=1.0, high=4.0),),
    objectives=(Objective("accuracy", "maximize"), Objective("bits", "minimize")),
)


def addresses(page: str) -> list[str]:
    """What the page would load: all but its own parts and pictures within it."""
    return re.findall(r"""(?:src|href)=["'](?!\#|data:)[^"']*|url\((?!\#)[^)]*\)|@import""", page)


@pytest.fixture
def recipe(registry):
    return read_recipe("quickstart", registry=registry)


def test_a_finished_run_has_a_page_that_loads_nothing(finished):
    page = (finished.folder / "report.html").read_text()
    assert addresses(page) == []
    groups = len(
        finished.report["change"]["accuracy"]["by_group"]
    )  # one confusion matrix each, beside seven pictures of all
    assert page.count("<svg") == 7 + groups
    assert finished.report["artifact"]["sha256"] in page


def test_a_comparison_shows_every_row_and_marks_the_reference(recipe):
    page = comparison_page(
        comparison_of(recipe, row("fp32", bits=32.0), row("a<b @ 3"), failed_row("c", "did not <run>"))
    )
    assert addresses(page) == []
    assert "a&lt;b @ 3" in page
    assert "a<b" not in page
    assert "did not &lt;run&gt;" in page
    assert "DEMO" not in page


def test_a_demonstration_says_so(registry):
    assert "DEMO" in comparison_page(
        comparison_of(read_recipe("quickstart", registry=registry, demo=True), row("fp32"))
    )


def test_a_study_shows_its_front_its_commands_and_every_trial(recipe):
    best = trial(1, 0.9, 2.0, test={"accuracy": 0.88, "bits": 2.0})
    page = study_page(
        summary_of(trial(0, 0.7, 3.0), best, trial(2, 0.1, 1.5, "failed", problem="Out of <memory>"), front=(1,)),
        recipe,
        SECTION,
    )
    assert addresses(page) == []
    assert "fairquant run tiny.yaml &#39;budget.average_bits=2.0&#39;" in page
    assert "0.900 [0.850, 0.950]" in page
    assert "0.880" in page
    assert "Out of &lt;memory&gt;" in page
    assert "2 complete, 1 failed" in page


def test_a_study_without_results_has_a_page_too(recipe):
    page = study_page(summary_of(trial(0, 0.7, 3.0, "failed"), front=()), recipe, SECTION)
    assert "No trial is complete and keeps the constraints." in page
    assert "<svg" not in page


def test_a_diff_shows_both_sides_and_takes_nothing_for_markup():
    page = diff_page(diff_of(notes=("left <out>",)))
    assert addresses(page) == []
    assert "<h1>runs/a and runs/&lt;b&gt;</h1>" in page
    assert "<b>" not in page
    assert "Left &lt;out&gt;." in page
    for text in ("-0.100 [-0.150, -0.050]</td><td>B worse", "train.epochs", "newly wrong", "mole"):
        assert text in page
    assert page.count('<section class="prose">') == 2  # what holds paths and lists may break its lines
    assert "DEMO" not in page
    assert "DEMO" in diff_page(diff_of(demo=True))


def test_a_diff_of_other_images_has_no_differences():
    page = diff_page(unpaired())
    assert "The test images differ." in page
    assert "B - A" not in page
