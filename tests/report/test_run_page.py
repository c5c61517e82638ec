"""report.html of a run: the answer before anything else, every row without a script, nothing of the data taken for markup."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.predictions import decided, wrong_where
from helpers.reports import run_report

from fairquant.audit.acceptance import acceptance
from fairquant.audit.evaluate import audit
from fairquant.recipe import read_recipe
from fairquant.report.run import audit_report, cells_report
from fairquant.report.run_page import run_page
from fairquant.runs.results import BeforeAfter

EVIL = "<b>bold</b>"


@pytest.fixture(scope="module")
def page(registry):
    """Of a full-precision recipe whose groups, classes and images are called after markup."""
    labels = np.repeat([0, 1, 2], 40)
    groups = np.arange(120) % 2
    names = {"class_names": ("<i>MEL", "NV", "BKL"), "group_names": (EVIL, "plain")}
    before = decided(labels, labels, groups, **names)
    after = decided(labels, wrong_where(labels, (labels == 0) & (np.arange(120) % 3 < 2)), groups, **names)
    ids = tuple(f"<img src=x>{row}" for row in range(120))
    both = BeforeAfter(replace(before, ids=ids), replace(after, ids=ids))
    recipe = read_recipe("quickstart", ["method=fp32", "metrics=[accuracy]"], registry=registry)
    audited = audit(both.after, both.before, recipe.metrics, replicates=20)
    metrics, baseline, change = audit_report(audited)
    report = run_report() | {
        "metrics": metrics, "baseline": baseline, "change": change, "cells": cells_report(audited.cells), "budget": {"average_bits": None},
        "accept": acceptance(both.after, both.before, recipe.accept),
    }  # fmt: skip
    results = SimpleNamespace(test=both, audit=audited, full_bytes=400_000, quantized=None, decisions=None)
    return run_page(recipe, report, results, [f"dropped {EVIL}"])


def without_pictures(page):
    return re.sub(r"<svg.*?</svg>", "", page, flags=re.S)


def test_the_answer_is_the_first_thing_that_the_page_says(page):
    body = page[page.index("<main") if "<main" in page else page.index("<body") :]
    assert body.index("FAIL: a limit is broken") < min(
        body.index(text)
        for text in ("Evidence", "Technique", "<svg", "<table", "Sensitivity of" if "Sensitivity of" in body else "<h2")
    )
    first = body[: body.index("<h2")]
    assert "Sensitivity of &lt;i&gt;MEL" in first  # the limit that decides, a sentence's first letter large
    assert "Of 100 patients with &lt;i&gt;MEL" in first


def test_nothing_of_the_data_is_markup(page):
    assert EVIL not in page
    assert "<i>MEL" not in page
    assert "<img" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in without_pictures(page)
    assert "&lt;img src=x&gt;" in without_pictures(page)


def test_every_row_is_in_the_page_and_a_script_only_helps_to_find_it(page):
    """3 classes in 2 groups and overall for sensitivity, overall for the rest, and what is significant beside."""
    table = re.search(r'<table[^>]*id="classes".*?</table>', page, flags=re.S)[0]
    rows = re.findall(r"<tr>.*?</tr>", table.partition("<tbody>")[2], flags=re.S)
    assert len(rows) >= 3 * 3 + 2 * 3
    assert sum("<td>sensitivity</td>" in row or ">sensitivity<" in row for row in rows) == 9
    assert "hidden" not in table
    static = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.S)
    assert "<input" not in static  # the filter is made by the script alone
    assert 'createElement("input")' in page
    limits = re.search(r'<table[^>]*id="limits".*?</table>', static, flags=re.S)[0]
    assert limits.count("<tr>") == 1 + 12


def test_newly_wrong_images_are_listed_with_a_place_for_their_pictures(page):
    flips = re.search(r'<table id="flips".*?</table>', page, flags=re.S)[0]
    assert flips.count("<!--image ") == 25  # the most that are listed
    wrong = int(re.search(r"(\d+) images are newly misclassified", page)[1])
    assert wrong == 27


def test_a_loss_that_is_not_chance_is_marked(page):
    table = re.search(r'<table[^>]*id="classes".*?</table>', page, flags=re.S)[0]
    marked = [row for row in re.findall(r"<tr>.*?</tr>", table, flags=re.S) if "LOSS" in row]
    assert marked
    assert all("&lt;i&gt;MEL" in row or "NV" in row for row in marked)
