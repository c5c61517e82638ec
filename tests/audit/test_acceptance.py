"""PASS, FAIL, CANNOT TELL: the case that must fail, errors by simulation, power, and every kind of limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.metrics import registry_with_doubt
from helpers.predictions import cell_images, decided, wrong_where
from helpers.reports import run_report
from scipy.stats import binom

from fairquant.audit.acceptance import acceptance
from fairquant.audit.cell_reports import cells_report
from fairquant.audit.cells import cells_of
from fairquant.audit.evidence import PairedProportions
from fairquant.audit.holm import holm
from fairquant.errors import UserError
from fairquant.recipe.accept import read_accept
from fairquant.report.words import verdict
from fairquant.roles import Predictions

WITHOUT_ERROR = 0.999  # of a simulation's own chance


@pytest.fixture(scope="module")
def limits():
    """section -> its limits; None: the default ones."""
    registry = registry_with_doubt()

    def read(section=None, operating=False):
        problems: list = []
        found = read_accept(section, operating, registry, problems)
        assert problems == []
        return found

    return read


def answers(report):
    return {each["name"]: each["answer"] for each in report["limits"]}


def melanomas():
    """57 melanomas of 867 images: 40 found before and 25 after, none gained; of the others 70 % right before, 80 % after."""
    labels = np.r_[np.zeros(57, int), np.repeat([1, 2], 405)]
    place = np.r_[np.arange(57), np.tile(np.arange(405), 2)]
    was = np.where(labels == 0, place < 40, place < 283)
    now = np.where(labels == 0, place < 25, place < 324)
    groups = np.arange(867) % 2
    return (decided(labels, wrong_where(labels, ~right), groups) for right in (now, was))


def test_a_model_that_lost_sight_of_melanoma_fails_by_its_name(limits):
    after, before = melanomas()
    assert (after.predicted == after.labels).mean() > (before.predicted == before.labels).mean() + 0.05
    report = acceptance(after, before, limits())
    assert report["answer"] == "FAIL"
    first = report["limits"][0]
    assert first["name"] == "sensitivity of MEL"
    assert (first["answer"], first["kind"], first["images"]) == ("FAIL", "loss", 57)
    assert first["value"] == pytest.approx(15 / 57)
    assert 0 < first["low"] < 15 / 57 < first["high"] < 0.6
    assert all("MEL" in each["name"] for each in report["limits"] if each["answer"] == "FAIL")
    sentences = verdict(run_report() | {"accept": report, "cells": cells_report(cells_of(after, before))}, 400_000)
    assert sentences[0].startswith("FAIL: sensitivity of MEL lost 26.3 points")
    assert sentences[1].startswith(
        "Of 100 patients with MEL, the full-precision model finds 70, this one 44: a loss of 26.3 "
    )
    assert not any("PASS" in sentence for sentence in sentences)


def equal(per_cell):
    labels, groups = cell_images(per_cell)
    wrong = np.arange(len(labels)) % 5 == 0
    model = decided(labels, wrong_where(labels, wrong), groups)
    return model, model


def test_equal_models_pass_with_many_images_and_cannot_be_told_with_few(limits):
    many, few = acceptance(*equal(600), limits()), acceptance(*equal(20), limits())
    assert many["answer"] == "PASS"
    assert set(answers(many).values()) == {"PASS"}
    assert len(many["limits"]) == 12  # 3 classes and accuracy, overall and in 2 groups
    assert few["answer"] == "CANNOT TELL"
    assert set(answers(few).values()) == {"CANNOT TELL"}
    assert all(each["more_images"] > 0 for each in few["limits"])
    assert all(each["more_images"] is None for each in many["limits"])


@pytest.mark.parametrize("changed", [0, 1])
def test_as_many_more_images_as_it_says_do_tell(limits, changed):
    """changed: of 30 images, this many lost and gained."""

    def model(images):
        times = images // 30
        labels = np.zeros(images, int)
        was, now = np.ones((2, images), bool)
        was[: changed * times], now[changed * times : 2 * changed * times] = False, False
        return acceptance(
            *(decided(labels, wrong_where(labels, ~right)) for right in (now, was)),
            limits({"accuracy": {"loss_at_most": 0.05}}),
        )["limits"][0]

    few = model(30)
    assert few["answer"] == "CANNOT TELL"
    told = 30 + few["more_images"]
    assert model(told)["answer"] == "PASS"
    assert model(int(0.9 * told))["answer"] == "CANNOT TELL"


def test_harm_that_few_images_hint_at_is_told_by_as_many_more(limits):
    """4 of 20 lost, none gained: p is 1/16. Five losses would do, with 25 images like these."""

    def model(images):
        labels = np.zeros(images, int)
        now = np.arange(images) % 5 != 0
        after, before = (decided(labels, wrong_where(labels, ~right)) for right in (now, np.ones(images, bool)))
        return acceptance(after, before, limits({"accuracy": {"loss_at_most": 0.05}}))["limits"][0]

    assert (model(20)["answer"], model(20)["more_images"]) == ("CANNOT TELL", 5)
    assert model(25)["answer"] == "FAIL"


@pytest.mark.parametrize(
    ("lost", "gained", "answer"),
    [(0, 0, "PASS"), (30, 10, "PASS"), (40, 0, "CANNOT TELL"), (49, 0, "CANNOT TELL"), (50, 0, "CANNOT TELL"), (51, 0, "FAIL"),
     (80, 0, "FAIL"), (60, 45, "PASS"), (0, 80, "PASS"), (200, 165, "CANNOT TELL")],
)  # fmt: skip
def test_a_loss_just_within_and_just_beyond(limits, lost, gained, answer):
    """Of 1,000 images, at most 50 may be lost. Within the limit, 40 are too many to exclude 50; beyond it, the loss must not be
    chance."""
    labels, place = np.zeros(1000, int), np.arange(1000)
    was, now = place >= gained, (place < gained) | (place >= gained + lost)
    after, before = (decided(labels, wrong_where(labels, ~right)) for right in (now, was))
    report = acceptance(after, before, limits({"accuracy": {"loss_at_most": 0.05}}))
    assert report["answer"] == answer
    only = report["limits"][0]
    assert only["value"] == pytest.approx((lost - gained) / 1000)
    assert only["low"] <= only["value"] <= only["high"]
    if answer == "PASS":
        assert only["high"] < 0.05
    else:
        assert only["high"] >= 0.05


def simulate(draw, labels, groups, harm, change=0.05):
    """before and after; harm [N]: P(lost) - P(gained) of each image, on top of `change` either way."""
    was = draw.random(len(labels)) < 0.7
    flips = draw.random(len(labels))
    lost = was & (flips < (change + harm) / 0.7)
    gained = ~was & (flips < change / 0.3)
    now = (was & ~lost) | gained
    return (decided(labels, wrong_where(labels, ~right), groups) for right in (now, was))


SIZES = np.repeat(np.arange(6), [12, 30, 57, 120, 300, 80])  # images of each class in each group


def test_a_harmless_model_fails_in_at_most_5_percent(limits):
    """250 models whose images flip either way as often."""
    draw = np.random.default_rng(5)
    labels, groups = SIZES // 2, SIZES % 2
    default = limits()
    failed = sum(
        acceptance(*simulate(draw, labels, groups, np.zeros(len(labels))), default)["answer"] == "FAIL"
        for _ in range(250)
    )
    assert failed <= binom.ppf(WITHOUT_ERROR, 250, 0.05)


def counts(draw, images, harm, change, repeats):
    """lost, gained [repeats, M] of M classes by themselves."""
    lost = draw.binomial(images, change + harm, (repeats, len(images)))
    gained = draw.binomial(images - lost, change / (1 - change - harm))
    return lost.astype(float), gained.astype(float)


def test_a_harmless_model_fails_in_at_most_5_percent_of_2000():
    draw = np.random.default_rng(6)
    images = np.array([12, 30, 57, 120, 300, 80, 600, 2000])
    wrong = 0
    for lost, gained in zip(*counts(draw, images, np.zeros(8), 0.08, 2000), strict=True):
        evidence = PairedProportions(lost=lost, gained=gained, images=images.astype(float), limit=np.full(8, 0.02))
        wrong += holm(evidence.p_broken(), smallest=evidence.smallest()).rejected.any()
    assert wrong <= binom.ppf(WITHOUT_ERROR, 2000, 0.05)


@pytest.mark.parametrize("limit", [0.02, 0.05])
def test_any_wrong_pass_is_in_at_most_5_percent_of_2000(limit):
    """Losses exactly at the limit in 4 of 8 classes, none in the others: any of the 4 PASSed."""
    draw = np.random.default_rng(7)
    images = np.array([57, 150, 600, 2000] * 2)
    harm = np.r_[np.full(4, limit), np.zeros(4)]
    wrong = right = 0
    for lost, gained in zip(*counts(draw, images, harm, 0.01, 2000), strict=True):
        evidence = PairedProportions(lost=lost, gained=gained, images=images.astype(float), limit=np.full(8, limit))
        passed = holm(evidence.p_kept(), smallest=np.zeros(8)).rejected
        wrong += passed[:4].any()
        right += passed[7]
    assert wrong <= binom.ppf(WITHOUT_ERROR, 2000, 0.05)
    assert right > 1500  # the same tests do pass what is harmless


def test_a_class_with_a_loss_at_the_limit_passes_in_at_most_5_percent(limits):
    draw = np.random.default_rng(8)
    labels, groups = np.repeat([0, 1, 2], [200, 300, 400]), np.tile([0, 1], 450)
    harm = np.where(labels == 0, 0.05, 0.0)
    named = limits({"sensitivity": {"loss_at_most": 0.05}})
    passed = sum(
        answers(acceptance(*simulate(draw, labels, groups, harm, 0.01), named))["sensitivity of MEL"] == "PASS"
        for _ in range(200)
    )
    assert passed <= binom.ppf(WITHOUT_ERROR, 200, 0.05)


def test_a_class_that_loses_a_quarter_of_100_images_fails_in_more_than_90_percent(limits):
    draw = np.random.default_rng(9)
    labels, groups = np.repeat([0, 1, 2], [100, 400, 400]), np.tile([0, 1], 450)
    harm = np.where(labels == 0, 0.25, 0.0)
    default = limits()
    failed = sum(
        answers(acceptance(*simulate(draw, labels, groups, harm, 0.02), default))["sensitivity of MEL"] == "FAIL"
        for _ in range(60)
    )
    assert failed > 54


OTHER_METRICS = {
    "worst-group-accuracy": {"loss_at_most": 0.05}, "accuracy-gap": {"rise_at_most": 0.05}, "ece": {"rise_at_most": 0.05},
    "ppv": {"classes": ["MEL"], "loss_at_most": 0.05}, "doubt": {"rise_at_most": 0.05}, "worst-class-recall": {"loss_at_most": 0.05},
    "recall-loss": {"rise_at_most": 0.05}, "balanced-accuracy": {"loss_at_most": 0.05},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_METRICS)
def test_any_metric_has_limits(limits, name):
    """Equal models pass with 1,500 images a class and group; a model that loses 40 % of MEL in one group fails, with the
    metric's own values."""
    labels, groups = cell_images(1500)
    draw = np.random.default_rng(10)
    wrong = draw.random(len(labels)) < 0.15
    before = decided(labels, wrong_where(labels, wrong), groups)
    before = replace(before, reference=before)
    section = limits({name: OTHER_METRICS[name]})
    same = acceptance(before, before, section)
    assert (same["answer"], same["limits"][0]["value"]) == ("PASS", 0)
    struck = wrong | ((groups == 0) & (draw.random(len(labels)) < 0.4))
    after = decided(labels, wrong_where(labels, struck), groups)
    report = acceptance(replace(after, reference=before), before, section)
    assert report["answer"] == "FAIL", report
    only = report["limits"][0]
    assert only["low"] < only["value"] < only["high"]
    metric = section[0].metric.value
    if metric.needs == "predictions":
        change = metric.evaluate(after).value - metric.evaluate(before).value
        assert only["value"] == pytest.approx(float(change))


def test_a_limit_of_a_strangers_metric_by_group(limits):
    labels, groups = cell_images(1500)
    before = decided(labels, labels, groups)
    after = decided(labels, wrong_where(labels, (groups == 1) & (np.arange(len(labels)) % 3 == 0)), groups)
    report = acceptance(after, before, limits({"doubt": {"by": "group", "rise_at_most": 0.1}}))
    assert answers(report) == {"doubt in 'light'": "FAIL", "doubt": "FAIL", "doubt in 'dark'": "PASS"}


def test_a_metric_without_values_by_group_is_refused_by_name(limits):
    class Total:
        needs, gap = "predictions", False

        def evaluate(self, predictions):
            from fairquant.roles import Rates

            return Rates(np.asarray((predictions.labels == predictions.predicted).mean()))

    only = limits({"doubt": {"by": "group", "rise_at_most": 0.1}})[0]
    strange = replace(only, metric=replace(only.metric, value=Total()))
    with pytest.raises(UserError, match=r"accept\.doubt\.by: doubt has no values by group"):
        acceptance(*equal(20), [strange])


def test_the_worst_of_a_rare_class_does_not_pass_although_nothing_changed(limits):
    """3 images cannot exclude a loss of 5 %, whatever a bootstrap of equal models says."""
    labels = np.repeat([0, 1, 2], [3, 900, 900])
    model = decided(labels, labels)
    section = limits({"worst-class-recall": {"loss_at_most": 0.05}})
    report = acceptance(model, model, section)
    assert report["answer"] == "CANNOT TELL"
    assert report["limits"][0]["more_images"] > 300
    enough = decided(np.repeat([0, 1, 2], 900), np.repeat([0, 1, 2], 900))
    assert acceptance(enough, enough, section)["answer"] == "PASS"


def test_the_order_of_images_groups_and_classes_does_not_matter(limits):
    draw = np.random.default_rng(11)
    labels, groups = cell_images(150)
    after, before = simulate(draw, labels, groups, np.where((labels == 0) & (groups == 1), 0.25, 0.0))
    section = limits()
    plain = acceptance(after, before, section)
    shuffle = draw.permutation(len(labels))

    def turned(each):
        return replace(each, groups=1 - each.groups, group_names=each.group_names[::-1]).take(shuffle)

    other = acceptance(turned(after), turned(before), section)
    assert {each["name"]: each for each in plain["limits"]} == {each["name"]: each for each in other["limits"]}
    renamed = acceptance(*(replace(each, group_names=("x", "y")) for each in (after, before)), section)
    assert [(each["answer"], each["value"]) for each in renamed["limits"]] == [
        (each["answer"], each["value"]) for each in plain["limits"]
    ]


@pytest.mark.parametrize(
    ("section", "answer"),
    [
        ({"accuracy": {"at_least": 0.75}}, "PASS"), ({"accuracy": {"at_least": 0.79}}, "CANNOT TELL"),
        ({"accuracy": {"at_least": 0.81}}, "CANNOT TELL"), ({"accuracy": {"at_least": 0.85}}, "FAIL"),
        ({"worst-group-accuracy": {"at_least": 0.75}}, "PASS"), ({"worst-group-accuracy": {"at_least": 0.85}}, "FAIL"),
        ({"accuracy-gap": {"at_most": 0.1}}, "PASS"), ({"doubt": {"at_most": 0.15}}, "FAIL"), ({"doubt": {"at_most": 0.4}}, "PASS"),
    ],
)  # fmt: skip
def test_absolute_limits(limits, section, answer):
    """80 % of 3,600 images are right in every cell."""
    model, _ = equal(600)
    report = acceptance(model, model, limits(section))["limits"][0]
    assert report["answer"] == answer
    assert report["low"] <= report["value"] <= report["high"]
    if "accuracy" in section:
        assert report["value"] == pytest.approx(0.8)
        assert (report["kind"], report["images"]) == ("at least", 3600)


def test_an_absolute_limit_of_a_fraction_is_the_exact_binomial_test(limits):
    """59 of 59 right exclude 95 % at .05, 58 of 58 do not."""
    for images, answer in ((58, "CANNOT TELL"), (59, "PASS")):
        model = decided(np.zeros(images), np.zeros(images))
        report = acceptance(model, model, limits({"accuracy": {"at_least": 0.95}}))["limits"][0]
        assert report["answer"] == answer
        assert (report["value"], report["high"]) == (1.0, 1.0)
        assert report["low"] == pytest.approx(0.05 ** (1 / images))


def test_the_size_of_the_file_is_no_statistics(limits):
    both = equal(20)
    section = limits({"file": {"at_most": "1kB"}})
    small, large = acceptance(*both, section, 1000), acceptance(*both, section, 1001)
    assert next(each["answer"] for each in small["limits"] if each["name"] == "file size in bytes") == "PASS"
    assert (large["answer"], large["limits"][0]["name"]) == ("FAIL", "file size in bytes")
    assert not any(each["name"].startswith("file") for each in acceptance(*both, section)["limits"])  # not known


def test_a_size_limit_alone_asks_about_patients_all_the_same(limits):
    assert acceptance(*equal(20), limits({"file": {"at_most": "1kB"}}), 10)["answer"] == "CANNOT TELL"
    assert acceptance(*equal(600), limits({"file": {"at_most": "1kB"}}), 10)["answer"] == "PASS"


def test_harm_that_a_small_group_of_many_classes_could_hide_does_not_pass(limits):
    """One image of each of thirty classes: no cell alone could lower the group's accuracy by the limit."""
    labels = np.concatenate([np.repeat(np.arange(30), 40), np.arange(30)])
    groups = np.concatenate([np.zeros(1200, int), np.ones(30, int)])
    model = decided(labels, labels, groups, class_names=tuple(f"c{number}" for number in range(30)))
    section = {name: {"loss_at_most": 0.05} for name in ("worst-group-accuracy", "group-mean-accuracy")}
    section["accuracy-gap"] = {"rise_at_most": 0.05}
    answers = {each["name"]: each["answer"] for each in acceptance(model, model, limits(section))["limits"]}
    assert answers["worst-group-accuracy"] == answers["accuracy-gap"] == "CANNOT TELL"


def test_a_metric_that_leaves_out_cells_cannot_pass_and_says_how_many(limits):
    labels = np.concatenate([np.repeat([0, 1], 400), np.repeat([0, 1], 5)])
    groups = np.concatenate([np.zeros(800, int), np.ones(10, int)])
    before = decided(labels, labels, groups)
    after = decided(np.where(groups == 1, 1 - labels, labels), labels, groups)
    (report,) = acceptance(after, before, limits({"recall-loss": {"at_most": 0.1}}))["limits"]
    assert (report["answer"], report["left_out"]) == ("CANNOT TELL", 4)  # one class has no image at all


def test_answers_that_are_no_numbers_and_names_that_are_equal_are_refused(limits):
    model, _ = equal(20)
    nan = replace(model, logits=np.full_like(model.logits, np.nan))
    with pytest.raises(UserError, match="are not finite numbers"):
        acceptance(nan, model, limits())
    twice = replace(model, class_names=(model.class_names[0],) * len(model.class_names))
    with pytest.raises(UserError, match="two class names are equal"):
        acceptance(twice, twice, limits())


def test_a_class_that_a_group_lacks_cannot_be_told_there_and_says_how_many_images_would_do(limits):
    labels, groups = cell_images(600)
    keep = ~((labels == 0) & (groups == 1))
    model = decided(labels[keep], labels[keep], groups[keep])
    report = acceptance(model, model, limits())
    assert report["answer"] == "CANNOT TELL"
    lacking = report["limits"][0]
    assert (lacking["name"], lacking["answer"], lacking["images"]) == (
        "sensitivity of MEL in 'light'",
        "CANNOT TELL",
        0,
    )
    assert (lacking["value"], lacking["low"], lacking["high"]) == (None, None, None)
    assert 58 < lacking["more_images"] < 300
    assert {each["answer"] for each in report["limits"][1:]} == {"PASS"}


def test_no_limits_give_no_answer():
    assert acceptance(*equal(20), ()) == {"answer": "CANNOT TELL", "limits": []}


def test_those_that_fail_come_first_then_those_that_cannot_be_told(limits):
    labels, groups = cell_images(400)
    after = decided(labels, wrong_where(labels, (labels == 2) & (np.arange(len(labels)) % 4 == 0)), groups)
    report = acceptance(after, decided(labels, labels, groups), limits(), 9)
    order = [("FAIL", "CANNOT TELL", "PASS").index(each["answer"]) for each in report["limits"]]
    assert order == sorted(order)
    assert report["limits"][0]["name"] == "sensitivity of BKL"
    assert len(set(order)) >= 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "miscounted",
            "counted\\(\\) of miscounted must give two arrays of true and false, one entry for each of the 867 images",
        ),
        ("two-values", "metric .two-values. gave float64 \\(\\d+, 2\\) for \\d+ replicates"),
    ],
)
def test_what_a_strangers_metric_gives_in_another_form_is_refused(limits, name, said):
    after, before = melanomas()
    with pytest.raises(UserError, match=said):
        acceptance(after, before, limits({name: {"loss_at_most": 0.05}}))


def test_a_limit_that_is_said_twice_is_tested_once(limits):
    after, before = melanomas()
    section = {
        "sensitivity": [{"classes": ["MEL", "MEL"], "loss_at_most": 0.05}, {"classes": ["MEL"], "loss_at_most": 0.05}]
    }
    assert [each["name"] for each in acceptance(after, before, limits(section))["limits"]] == ["sensitivity of MEL"]


@pytest.mark.parametrize(
    "metric", [{"balanced-accuracy": {}}, {"auc": {}}, {"balanced-accuracy": {"by": "group"}}, {"auc": {"by": "group"}}]
)
def test_nothing_passes_where_a_class_has_no_image(limits, metric):
    """Equal models, so that every measured loss is 0: but nothing is known of class MEL in group b, or at all."""
    labels = np.repeat([1, 2], 600) if next(iter(metric.values())) == {} else np.repeat([0, 1, 2], 400)
    groups = np.where(labels == 0, 0, np.arange(len(labels)) % 2)
    model = decided(labels, labels.copy(), groups)
    name, given = next(iter(metric.items()))
    report = acceptance(model, model, limits({name: {**given, "loss_at_most": 0.05}}))
    assert report["answer"] == "CANNOT TELL"
    told = {each["name"]: (each["answer"], each["left_out"]) for each in report["limits"]}
    assert any(left_out == 1 for _, left_out in told.values())


@pytest.mark.parametrize("classes", [49, 60])
def test_few_images_of_a_cell_pass_nothing_however_many_cells_there_are(classes):
    """Harm to a cell of ten images may go unseen, whether there are 196 cells or 240."""
    labels = np.repeat(np.arange(classes), 190)
    groups = np.tile(np.repeat([0, 1, 2, 3], [60, 60, 60, 10]), classes)
    logits = np.full((len(labels), classes), -9.0, np.float32)
    logits[np.arange(len(labels)), labels] = 9
    model = Predictions(
        logits=logits, labels=labels, groups=groups, group_names=tuple("abcd"),
        class_names=tuple(f"c{number:02d}" for number in range(classes)),
    )  # fmt: skip
    problems: list = []
    found = read_accept({"recall-loss": {"rise_at_most": 0.2}}, False, registry_with_doubt(), problems)
    assert acceptance(model, model, found)["answer"] == "CANNOT TELL"
