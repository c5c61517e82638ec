"""Rates of every class for everyone: counts by hand, exact tests, intervals, and who is named."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from helpers.predictions import decided, random_predictions
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from fairquant.audit.cells import cells_of
from fairquant.report.answer import cells_sentences, frequency
from fairquant.report.run import cell_report, cells_csv, cells_report
from fairquant.roles import OperatingPoint, Predictions

#: label, before, after, group of twelve images
TABLE = np.array([
    (0, 0, 1, 0), (0, 0, 1, 0), (0, 0, 0, 0), (0, 2, 0, 0), (1, 1, 1, 0), (2, 2, 0, 0),
    (0, 0, 0, 1), (1, 0, 1, 1), (1, 1, 1, 1), (1, 1, 2, 1), (2, 0, 0, 1), (2, 2, 2, 1),
])  # fmt: skip


@pytest.fixture
def small():
    labels, was, now, groups = TABLE.T
    return cells_of(decided(labels, now, groups), decided(labels, was, groups))


def one(cells, rate, label, scope="all images"):
    return next(cell for cell in cells.of(rate, scope) if cell.label == label)


@pytest.mark.parametrize("scope", ["all images", "dark", "light"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_every_rate_by_counting(small, scope, label):
    rows = TABLE[np.isin(TABLE[:, 3], {"all images": [0, 1], "dark": [0], "light": [1]}[scope])].tolist()
    name = ("MEL", "NV", "BKL")[label]
    for when in (1, 2):
        of_class = [row for row in rows if row[0] == label]
        others = [row for row in rows if row[0] != label]
        taken = [row for row in rows if row[when] == label]
        counts = {
            "sensitivity": (sum(row[when] == label for row in of_class), len(of_class)),
            "specificity": (sum(row[when] != label for row in others), len(others)),
            "ppv": (sum(row[0] == label for row in taken), len(taken)),
        }
        for rate, expected in counts.items():
            cell = one(small, rate, name, scope)
            found = cell.before if when == 1 else cell.after
            assert (found.right, found.images) == expected, rate
            if expected[1]:
                assert (found.low, found.high) == pytest.approx(
                    proportion_confint(*expected, method="wilson"), abs=1e-9
                )


@pytest.mark.parametrize("scope", ["all images", "dark", "light"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_losses_are_tested_on_pairs(small, scope, label):
    """p is that of McNemar's test on the images whose decision about the class changed."""
    rows = TABLE[np.isin(TABLE[:, 3], {"all images": [0, 1], "dark": [0], "light": [1]}[scope])].tolist()
    name = ("MEL", "NV", "BKL")[label]
    for rate in ("sensitivity", "specificity"):
        side = [row for row in rows if (row[0] == label) == (rate == "sensitivity")]
        right = [((row[1] == label) == (row[0] == label), (row[2] == label) == (row[0] == label)) for row in side]
        lost, gained = right.count((True, False)), right.count((False, True))
        cell = one(small, rate, name, scope)
        assert cell.change[0] == pytest.approx((gained - lost) / len(side))
        assert cell.change[1] <= cell.change[0] <= cell.change[2]
        expected = binomtest(lost, lost + gained, 0.5, "greater").pvalue if lost + gained else 1.0
        assert cell.p == pytest.approx(expected)
        if lost > gained:
            assert cell.p == pytest.approx(mcnemar([[0, lost], [gained, 0]], exact=True).pvalue / 2)
    assert np.isnan(one(small, "ppv", name, scope).p)


def test_few_images_name_nobody_and_say_so(small):
    """12 images, of which at most two of a cell changed: no p can be below .25."""
    assert small.lost() == []
    assert (small.judged, small.undecided) == (0, 18)  # 2 rates, 3 classes, all images and 2 groups
    said = cells_sentences(cells_report(small), {"answer": "CANNOT TELL", "limits": []})
    assert said == [
        "18 of 18 sensitivities and specificities cannot be judged one by one, because too few of their images changed: that none "
        "is named here does not mean that none lost."
    ]


def melanomas():
    """57 melanomas, 40 found before and 25 after, all losses among dark; 810 others, 10 changed either way."""
    labels = np.r_[np.zeros(57, int), np.repeat([1, 2], 405)]
    groups = np.r_[np.zeros(30, int), np.ones(27, int), np.arange(810) % 2]
    place = np.r_[np.arange(57), np.tile(np.arange(405), 2)]
    was = np.where(labels == 0, (place < 20) | ((place >= 30) & (place < 50)), place % 5 > 0)
    now = was & ~((labels == 0) & (place < 15))
    flipped = (labels == 1) & (place < 20)
    now = np.where(flipped, ~was, now)
    return (decided(labels, np.where(right, labels, (labels + 1) % 3), groups) for right in (now, was))


def test_the_cell_that_lost_is_named_in_natural_frequencies():
    after, before = melanomas()
    cells = cells_of(after, before)
    lost = cells.lost()
    assert {(cell.rate, cell.label, cell.scope) for cell in lost} >= {
        ("sensitivity", "MEL", "all images"), ("sensitivity", "MEL", "dark"),
    }  # fmt: skip
    assert not any(cell.label == "MEL" and cell.scope == "light" for cell in lost)
    changes = [cell.change[0] for cell in lost]
    assert changes == sorted(changes)
    assert (lost[0].label, lost[0].scope, lost[0].change[0]) == ("MEL", "dark", -0.5)
    overall = one(cells, "sensitivity", "MEL")
    assert frequency(cell_report(overall)).startswith(
        "Of 100 patients with MEL, the full-precision model finds 70, this one 44: a loss of 26.3 points (95 % interval "
    )
    assert frequency(cell_report(overall)).endswith(", on 57 images.")
    assert "Of 100 patients with MEL in 'dark', the full-precision model finds 67, this one 17" in frequency(
        cell_report(lost[0])
    )


def test_a_lost_specificity_is_said_of_patients_without_the_class():
    labels = np.repeat([0, 1], [100, 400])
    was = labels.copy()
    now = np.where((labels == 1) & (np.arange(500) % 4 == 0), 0, labels)
    cells = cells_of(decided(labels, now), decided(labels, was))
    sentence = frequency(cell_report(one(cells, "specificity", "MEL")))
    assert sentence.startswith(
        "Of 100 patients without MEL, the full-precision model clears 100, this one 75: a loss of 25.0"
    )


def test_intervals_of_a_predictive_value_are_those_of_a_bootstrap():
    """The change of ppv rests on overlapping images: 4,000 paired bootstraps."""
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 3, 1500)
    was = np.where(draw.random(1500) < 0.7, labels, draw.integers(0, 3, 1500))
    now = np.where(draw.random(1500) < 0.8, was, draw.integers(0, 3, 1500))
    cells = cells_of(decided(labels, now), decided(labels, was))
    weights = draw.multinomial(1500, np.full(1500, 1 / 1500), 4000)
    for number, name in enumerate(("MEL", "NV", "BKL")):
        values = [
            weights @ ((taken == number) & (labels == number)) / (weights @ (taken == number)) for taken in (now, was)
        ]
        low, high = np.quantile(values[0] - values[1], [0.025, 0.975])
        value, *ends = one(cells, "ppv", name).change
        assert value == pytest.approx(
            float((labels[now == number] == number).mean() - (labels[was == number] == number).mean())
        )
        assert ends == pytest.approx([low, high], abs=0.1 * (high - low))


def test_a_class_that_a_model_never_predicts_has_no_predictive_value():
    cells = cells_of(decided([0, 1, 1], [1, 1, 1]), decided([0, 1, 1], [0, 1, 1]))
    cell = one(cells, "ppv", "MEL")
    assert (cell.before.value, cell.after.images) == (1.0, 0)
    assert np.isnan([cell.after.value, *cell.change]).all()
    assert cell_report(cell)["after"] is None


def test_values_of_attributes_add_up_and_are_tested_with_all_others():
    p, before = random_predictions(600, groups=4, seed=1), random_predictions(600, groups=4, seed=2)
    names = ("f x old", "f x young", "m x old", "m x young")
    p, before = (replace(each, labels=p.labels, groups=p.groups, group_names=names) for each in (p, before))
    cells, plain = cells_of(p, before, ("sex", "age")), cells_of(p, before)
    assert cells.scopes.names == ("all images", *names, "sex: f", "sex: m", "age: old", "age: young")
    for rate in ("sensitivity", "specificity", "ppv"):
        for number in range(4):
            by_scope = {scope: cells.of(rate, scope)[number] for scope in cells.scopes.names}
            for whole, parts in {
                "sex: f": names[:2], "sex: m": names[2:], "age: old": names[::2], "age: young": names[1::2], "all images": names,
            }.items():  # fmt: skip
                for when in ("before", "after"):
                    for count in ("right", "images"):
                        total = sum(getattr(getattr(by_scope[part], when), count) for part in parts)
                        assert getattr(getattr(by_scope[whole], when), count) == total
    assert cells.judged + cells.undecided == 9 * 4 * 2
    same = [replace(cell, significant=False) for cell in cells.cells if ": " not in cell.scope]
    assert [repr(cell) for cell in same] == [repr(replace(cell, significant=False)) for cell in plain.cells]


def test_a_loss_that_only_a_whole_attribute_shows_is_named():
    """Five sites of twelve images a tone: no group alone can show that the dark lost four in each."""
    groups = np.repeat(np.arange(10), 12)
    labels = np.zeros(120, int)
    names = tuple(f"{tone} x site {site}" for tone in ("dark", "light") for site in range(5))
    right = np.where(np.arange(120)[:, None] >= 0, [5.0, 0.0], 0.0).astype(np.float32)
    wrong = right.copy()
    lost = (groups < 5) & (np.arange(120) % 12 < 4)
    wrong[lost] = [0.0, 5.0]
    before = Predictions(logits=right, labels=labels, groups=groups, group_names=names, class_names=("c0", "c1"))
    found = {
        (cell.rate, cell.scope) for cell in cells_of(replace(before, logits=wrong), before, ("tone", "site")).lost()
    }
    assert ("sensitivity", "tone: dark") in found
    assert not any(scope.startswith("dark x") for _, scope in found)


def test_a_loss_at_the_operating_point_is_named_where_no_answer_changed():
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    first = draw.uniform(0.2, 0.3, 120)
    first[labels == 0] = 0.45  # below one half: never the answer, and above the threshold

    def model(score: np.ndarray) -> Predictions:
        return Predictions(
            logits=np.log(np.stack([score, 1 - score], 1)).astype(np.float32), labels=labels, groups=np.zeros(120, int),
            group_names=("all",), class_names=("MEL", "NV"), operating=OperatingPoint((0,), 0.4),
        )  # fmt: skip

    cells = cells_of(model(np.where(labels == 0, 0.35, first)), model(first))
    named = {(cell.rate, cell.scope) for cell in cells.lost()}
    assert ("operating-point sensitivity", "all images") in named
    assert not any(rate == "sensitivity" for rate, _ in named)


def test_names_that_are_no_intersections_have_no_views():
    p = random_predictions(100, groups=3)
    assert cells_of(p, p, ("sex", "age")).scopes.names == ("all images", "g0", "g1", "g2")
    assert cells_of(p, p, ("sex",)).scopes.names == ("all images", "g0", "g1", "g2")


def test_where_nothing_is_lost_anything_is_named_in_at_most_5_percent():
    draw = np.random.default_rng(4)
    labels, groups = draw.integers(0, 3, 600), draw.integers(0, 2, 600)
    named = 0
    for _ in range(200):
        was = draw.random(600) < 0.7
        now = np.where(draw.random(600) < 0.15, draw.permuted(was), was)
        flip = draw.random(600) < 0.5  # either model may be the first: nothing is lost in truth
        first, second = np.where(flip, was, now), np.where(flip, now, was)
        models = (decided(labels, np.where(right, labels, (labels + 1) % 3), groups) for right in (first, second))
        named += bool(cells_of(*models).lost())
    assert named <= 20  # the .999 quantile of 200 draws at 5 %


def test_the_table_has_a_line_for_every_cell(small):
    rows = list(csv.DictReader(io.StringIO(cells_csv(small).decode())))
    assert len(rows) == 3 * 3 * 3
    first = rows[0]
    assert (first["rate"], first["class"], first["scope"]) == ("sensitivity", "MEL", "all images")
    assert (first["before_right"], first["before_images"], first["after_right"]) == ("4", "5", "3")
    assert float(first["change"]) == pytest.approx(-0.2)
