"""Metrics equal independent computations with scikit-learn and fairlearn, and keep the laws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from fairquant.audit.confusion import WeightedConfusion, confusion_tensor, image_weights, resample
from fairquant.audit.evaluate import change_against, evaluate, group_intervals
from fairquant.recipe.schema import DEFAULT_METRICS, Component
from fairquant.roles import Confusion, Predictions


def predictions(count=400, classes=4, groups=3, seed=0, accuracy=0.6) -> Predictions:
    draw = np.random.default_rng(seed)
    labels, group = draw.integers(0, classes, count), draw.integers(0, groups, count)
    logits = draw.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += np.where(draw.random(count) < accuracy - 0.1 * group, 5, 0)
    names = tuple(f"g{g}" for g in range(groups)), tuple(f"c{c}" for c in range(classes))
    return Predictions(logits=logits, labels=labels, groups=group, group_names=names[0], class_names=names[1])


@pytest.fixture(scope="module")
def metrics(plugins):
    built = []
    for given_ in DEFAULT_METRICS:
        options = {key: value for key, value in given_.items() if key != "name"}
        built.append(Component(given_["name"], plugins.registry.load("metric", given_["name"])(**options)))
    return built


def one(metrics, label):
    return [component for component in metrics if component.label == label]


def cells(p):
    """Rates by scikit-learn: (group, class) -> TPR, FPR, images of the class, images of others; None where undefined."""
    found = {}
    for g in range(len(p.group_names)):
        here = p.groups == g
        table = confusion_matrix(p.labels[here], p.predicted[here], labels=range(len(p.class_names)))
        for c in range(len(p.class_names)):
            positive, negative = table[c].sum(), table.sum() - table[c].sum()
            wrong = table[:, c].sum() - table[c, c]
            found[g, c] = (
                table[c, c] / positive if positive else None, wrong / negative if negative else None, positive, negative,
                table[:, c].sum() / table.sum(),
            )  # fmt: skip
    return found


def test_accuracies_equal_scikit_learn(metrics):
    p = predictions()
    found = evaluate(p, metrics)
    by_group = {
        n: accuracy_score(p.labels[p.groups == g], p.predicted[p.groups == g]) for g, n in enumerate(p.group_names)
    }
    assert found["accuracy"].value == pytest.approx(accuracy_score(p.labels, p.predicted))
    assert found["accuracy"].by_group == pytest.approx(by_group)
    assert found["balanced-accuracy"].value == pytest.approx(recall_score(p.labels, p.predicted, average="macro"))
    assert found["worst-group-accuracy"].value == pytest.approx(min(by_group.values()))
    assert found["accuracy-gap"].value == pytest.approx(max(by_group.values()) - min(by_group.values()))


def test_accuracies_equal_fairlearn(metrics):
    from fairlearn.metrics import MetricFrame

    p = predictions(seed=3)
    frame = MetricFrame(metrics=accuracy_score, y_true=p.labels, y_pred=p.predicted, sensitive_features=p.groups)
    found = evaluate(p, metrics)
    assert found["worst-group-accuracy"].value == pytest.approx(frame.group_min())
    assert found["accuracy-gap"].value == pytest.approx(frame.difference())


def test_binary_gaps_equal_fairlearn(plugins):
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    p = predictions(classes=2, seed=4)
    load = plugins.registry.load
    found = evaluate(
        p, [Component("eodd", load("metric", "eodd")()), Component("dp", load("metric", "demographic-parity")())]
    )
    sensitive = {"sensitive_features": p.groups}
    # with two classes the one-vs-rest gaps of one class are those of the other with TPR and TNR exchanged
    assert found["eodd"].value == pytest.approx(equalized_odds_difference(p.labels, p.predicted, **sensitive))
    assert found["dp"].value == pytest.approx(demographic_parity_difference(p.labels, p.predicted, **sensitive))


def test_the_valid_convention_by_hand(metrics):
    p = predictions(count=250, classes=5, groups=3, seed=5)
    keep = ~((p.groups == 2) & (p.labels == 4))  # class 4 is absent from group 2
    p = p.take(np.flatnonzero(keep))
    table, groups, classes = cells(p), range(3), range(5)
    gaps0, gaps1, gaps_odd, skipped = [], [], [], 0
    for c in classes:
        hits = [table[g, c][0] for g in groups if table[g, c][2] >= 10]
        alarms = [table[g, c][1] for g in groups if table[g, c][3] >= 10]
        skipped += 3 - len(hits)
        if len(hits) >= 2:
            gaps1.append(max(hits) - min(hits))
            gaps_odd.append(max(max(hits) - min(hits), max(alarms) - min(alarms)))
        gaps0.append(max(alarms) - min(alarms))
    found = evaluate(p, metrics)
    assert found["eopp1"].value == pytest.approx(np.mean(gaps1))
    assert found["eopp1"].skipped == skipped >= 1
    assert found["eopp0"].value == pytest.approx(np.mean(gaps0))
    assert found["predictive-equality"].value == pytest.approx(np.mean(gaps0))
    assert found["eodd"].value == pytest.approx(np.mean(gaps_odd))


def test_the_fairquant_convention_by_hand(metrics):
    p = predictions(count=250, classes=5, groups=3, seed=6)
    p = p.take(np.flatnonzero(~((p.groups == 2) & (p.labels == 4))))
    table = cells(p)
    tpr, fpr = [], []
    for c in range(5):
        hits = [table[g, c][0] for g in range(3)]
        tpr.append(0 if None in hits else max(hits) - min(hits))
        alarms = [table[g, c][1] for g in range(3)]
        fpr.append(max(alarms) - min(alarms))
    found = evaluate(p, metrics)
    assert found["eopp1-fairquant"].value == pytest.approx(np.mean(tpr))
    assert found["eopp0-fairquant"].value == pytest.approx(np.mean(fpr))
    assert found["eodd-fairquant"].value == pytest.approx(np.mean(np.add(tpr, fpr)))


def test_the_fairprune_convention_by_hand(metrics):
    p = predictions(count=200, classes=5, groups=2, seed=7)
    p = p.take(np.flatnonzero(~((p.groups == 1) & (p.labels == 4))))
    table = cells(p)
    tpr = [(table[0, c][0] or 0) - (table[1, c][0] or 0) for c in range(5)]
    fpr = [table[0, c][1] - table[1, c][1] for c in range(5)]
    found = evaluate(p, metrics)
    assert found["eopp1-fairprune"].value == pytest.approx(np.mean(np.abs(tpr)))
    assert found["eopp0-fairprune"].value == pytest.approx(np.mean(np.abs(fpr)))
    assert found["eodd-fairprune"].value == pytest.approx(np.mean(np.abs(np.add(tpr, fpr))) / 2)
    assert found["eodd-fairprune"].value != pytest.approx(found["eodd-fairquant"].value, rel=0.05)


def test_fairprune_is_undefined_for_three_groups_and_says_how_many_cells_that_skips(metrics):
    found = evaluate(predictions(), one(metrics, "eodd-fairprune"))["eodd-fairprune"]
    assert math.isnan(found.value)
    assert found.skipped == 12


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), order=st.permutations(range(3)))
def test_metrics_do_not_depend_on_the_order_or_names_of_groups(metrics, seed, order):
    p = predictions(count=150, seed=seed)
    order = np.array(order)
    renamed = replace(p, groups=order[p.groups], group_names=tuple("xyz"[g] for g in range(3)))
    shuffled = renamed.take(np.random.default_rng(seed).permutation(150))
    first, second = evaluate(p, metrics, replicates=10), evaluate(shuffled, metrics, replicates=10)
    for label, value in first.items():
        assert second[label].value == pytest.approx(value.value, nan_ok=True)
        for g in range(3):
            assert second[label].by_group["xyz"[order[g]]] == pytest.approx(value.by_group[f"g{g}"], nan_ok=True)


def test_equal_groups_have_gap_zero(metrics):
    p = predictions(count=200, groups=1)
    twice = Predictions(
        logits=np.concatenate([p.logits] * 2),
        labels=np.concatenate([p.labels] * 2),
        groups=np.repeat([0, 1], 200),
        group_names=("a", "b"),
        class_names=p.class_names,
    )
    found = evaluate(twice, metrics, replicates=10)
    gaps = [component.label for component in metrics if component.value.gap]
    assert len(gaps) == 13
    assert all(found[label].value == pytest.approx(0, abs=1e-12) for label in gaps)


def test_intervals_cover_the_truth_about_as_often_as_they_say(metrics):
    """Accuracy .7 over 300 images: the 95 % interval should hold it about 95 times in 100."""
    covered = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, 300)
        right = draw.random(300) < 0.7
        logits = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
        p = Predictions(logits=logits, labels=labels, groups=draw.integers(0, 2, 300), group_names=("a", "b"), class_names=("n", "y"))
        found = evaluate(p, one(metrics, "accuracy"), seed=seed, replicates=400)["accuracy"]
        covered += found.low <= 0.7 <= found.high
    assert 88 <= covered <= 100


def test_every_interval_holds_its_value_and_gaps_show_their_null_floor(metrics):
    for seed in range(5):
        for label, value in evaluate(predictions(seed=seed), metrics).items():
            if not math.isnan(value.value):
                assert value.low <= value.value + 1e-9, label
                assert value.high >= value.value - 1e-9, label
        gap = evaluate(predictions(seed=seed), one(metrics, "accuracy-gap"))["accuracy-gap"]
        assert 0 < gap.permutation_baseline < gap.value


def test_the_null_floor_of_many_classes_is_far_from_zero(metrics):
    p = predictions(count=3000, classes=60, groups=2, accuracy=0.5)
    p = replace(p, groups=np.random.default_rng(77).integers(0, 2, 3000))
    found = evaluate(p, one(metrics, "eopp1"))["eopp1"]
    assert found.permutation_baseline > 0.05
    assert found.value == pytest.approx(found.permutation_baseline, rel=0.4)


def test_the_bootstrap_of_the_tensor_is_the_bootstrap_of_the_images():
    p = predictions(count=300)
    drawn = resample(confusion_tensor(p), 4000, np.random.default_rng(1))
    assert (drawn.sum((1, 2, 3)) == 300).all()
    accuracy = np.trace(drawn, axis1=2, axis2=3).sum(1) / 300
    right = (p.predicted == p.labels).astype(float)
    draw = np.random.default_rng(2)
    images = np.array([right[draw.integers(0, 300, 300)].mean() for _ in range(4000)])
    assert accuracy.mean() == pytest.approx(images.mean(), abs=0.003)
    assert accuracy.std() == pytest.approx(images.std(), rel=0.06)


def test_change_against_the_baseline_by_hand():
    before, after = predictions(seed=8), predictions(seed=9)
    after = replace(after, labels=before.labels, groups=before.groups)
    found = change_against(after, before)
    was, now = before.predicted == before.labels, after.predicted == after.labels
    assert found["accuracy"].value == pytest.approx(now.mean() - was.mean())
    assert found["flips"].value == pytest.approx((before.predicted != after.predicted).mean())
    assert found["harmful_flips"].value == pytest.approx((was & ~now).mean())
    for g, name in enumerate(before.group_names):
        here = before.groups == g
        assert found["accuracy"].by_group[name]["value"] == pytest.approx(now[here].mean() - was[here].mean())
        assert found["harmful_flips"].by_group[name]["value"] == pytest.approx((was & ~now)[here].mean())
        assert (
            found["flips"].by_group[name]["low"]
            <= found["flips"].by_group[name]["value"]
            <= found["flips"].by_group[name]["high"]
        )
    same = change_against(before, before)
    assert same["accuracy"].value == same["flips"].value == same["flips"].high == 0


def test_a_group_with_one_image_or_none_has_a_value_or_none_but_never_fails(metrics):
    p = predictions(count=100, groups=2)
    p = replace(p, groups=np.where(np.arange(100) == 0, 1, 0), group_names=("many", "one", "none"))
    found = evaluate(p, metrics)
    assert found["accuracy"].by_group["one"] in (0.0, 1.0)
    assert math.isnan(found["accuracy"].by_group["none"])
    assert found["worst-group-accuracy"].skipped == 1
    low, high = group_intervals(p)["many"][1:]
    assert low < high


def test_sample_metrics_are_resampled(plugins):
    class Confidence:
        needs, gap = "predictions", False

        def evaluate(self, p):
            from fairquant.roles import Rates

            return Rates(np.asarray(p.logits.max(1).mean()))

    found = evaluate(predictions(), [Component("confidence", Confidence())])["confidence"]
    assert found.low < found.value < found.high


def scored(images: int = 400, classes: int = 4, groups: int = 3, seed: int = 0) -> Predictions:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, images)
    logits = draw.normal(size=(images, classes)) + 1.2 * np.eye(classes)[labels]
    names = tuple(f"g{g}" for g in range(groups)), tuple(f"c{c}" for c in range(classes))
    return Predictions(logits=np.round(logits, 1).astype(np.float32), labels=labels, groups=draw.integers(0, groups, images), group_names=names[0], class_names=names[1])


def test_auc_equals_scikit_learn_overall_and_by_group():
    from fairquant_fair.scores import Auc, WorstGroupAuc
    from sklearn.metrics import roc_auc_score

    predictions = scored()
    rates = Auc().evaluate(predictions)
    expected = roc_auc_score(predictions.labels, predictions.probabilities, multi_class="ovr")
    assert float(rates.value) == pytest.approx(expected, abs=1e-12)
    rows = [predictions.groups == group for group in range(3)]
    groups = [
        roc_auc_score(predictions.labels[r], predictions.probabilities[r], multi_class="ovr") for r in rows
    ]  # fmt: skip
    assert rates.by_group == pytest.approx(groups, abs=1e-12)
    assert float(WorstGroupAuc().evaluate(predictions).value) == pytest.approx(min(groups), abs=1e-12)


def test_auc_interval_agrees_with_resampling_the_images():
    from fairquant_fair.scores import Auc

    predictions = scored(150)
    weights = image_weights(150, 300, np.random.default_rng(1))
    quick = Auc().weighted(predictions, weights)
    rows = [np.repeat(np.arange(150), row.astype(int)) for row in weights]
    slow = np.array([float(Auc().evaluate(predictions.take(row)).value) for row in rows])
    assert np.corrcoef(quick, slow)[0, 1] > 0.98
    assert quick.std() == pytest.approx(slow.std(), rel=0.1)


def test_sums_under_weights_are_those_of_the_drawn_images():
    given = predictions(90, classes=5, groups=3)
    weights = image_weights(90, 7, np.random.default_rng(3))
    weighed = WeightedConfusion(given, weights)
    for row, found in zip(weights, weighed.table, strict=True):
        drawn = Confusion(confusion_tensor(given.take(np.repeat(np.arange(90), row.astype(int)))))
        assert np.array_equal(found, drawn.table)
    plain = Confusion(weighed.table)
    for name in ("hits", "truth", "predicted", "images"):
        assert np.array_equal(getattr(weighed, name), getattr(plain, name)), name


def test_permuted_groups_keep_the_sizes_of_groups_and_the_confusion_of_all():
    given = predictions(90, classes=5, groups=3)
    shuffled = WeightedConfusion.of_permuted_groups(given, 6, np.random.default_rng(4))
    table = confusion_tensor(given)
    assert np.array_equal(shuffled.table.sum(1), np.broadcast_to(table.sum(0), (6, 5, 5)))
    assert np.array_equal(shuffled.images, np.broadcast_to(table.sum((1, 2)), (6, 3)))
    assert not np.array_equal(shuffled.truth[0], shuffled.truth[1])
    plain = Confusion(shuffled.table)
    for name in ("hits", "truth", "predicted"):
        assert np.array_equal(getattr(shuffled, name), getattr(plain, name)), name


def test_calibration_and_brier_equal_a_plain_computation():
    from fairquant_fair.scores import BrierScore, ExpectedCalibrationError

    predictions = scored()
    fraction, labels = predictions.probabilities, predictions.labels
    brier = np.mean([((fraction[i] - np.eye(4)[labels[i]]) ** 2).sum() for i in range(len(labels))])
    assert float(BrierScore().evaluate(predictions).value) == pytest.approx(brier)
    confidence, right, error = fraction.max(1), fraction.argmax(1) == labels, 0.0
    for low in np.arange(10) / 10:
        inside = (confidence >= low) & (confidence < low + 0.1)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    found = ExpectedCalibrationError(bins=10).evaluate(predictions)
    assert float(found.value) == pytest.approx(error)
    member = predictions.take(np.flatnonzero(predictions.groups == 1))
    assert found.by_group[1] == pytest.approx(float(ExpectedCalibrationError(bins=10).evaluate(member).value))


def test_predictive_parity_equals_scikit_learn_precision():
    from fairquant_fair.rates import PredictiveParity
    from sklearn.metrics import precision_score

    predictions = scored()
    by_group = [
        precision_score(predictions.labels[r], predictions.predicted[r], average=None)
        for r in (predictions.groups == group for group in range(3))
    ]
    expected = (np.max(by_group, 0) - np.min(by_group, 0)).mean()
    value = PredictiveParity(min_support=1).evaluate(Confusion(confusion_tensor(predictions))).value
    assert float(value) == pytest.approx(expected)


def test_a_group_without_images_has_no_auc_and_does_not_stop_the_audit():
    from fairquant_fair.scores import Auc, BrierScore, ExpectedCalibrationError, WorstGroupAuc

    predictions = scored()
    alone = replace(predictions, groups=np.where(predictions.groups == 2, 0, predictions.groups))
    for metric in (Auc(), WorstGroupAuc(), ExpectedCalibrationError(), BrierScore()):
        found = evaluate(alone, [Component("m", metric)])["m"]
        assert np.isnan(found.by_group["g2"])
        assert np.isfinite([found.value, found.low, found.high]).all()


def test_a_group_too_small_to_speak_of_is_left_out_and_counted():
    """An intersection of attributes with a handful of images must not be the worst group."""
    from fairquant_fair.accuracy import AccuracyGap, WorstGroupAccuracy

    small = predictions(count=300, groups=3)
    rows = np.concatenate([np.flatnonzero(small.groups < 2), np.flatnonzero(small.groups == 2)[:3]])
    small_group = small.take(rows)
    small_group = replace(
        small_group, logits=np.where((small_group.groups == 2)[:, None], -np.eye(4, dtype=np.float32)[small_group.labels], small_group.logits)
    )
    table = Confusion(confusion_tensor(small_group))
    large = Confusion(table.table[:2])
    assert float(WorstGroupAccuracy().evaluate(table).value) == 0  # three images, all wrong
    for metric in (WorstGroupAccuracy(min_support=10), AccuracyGap(min_support=10)):
        found = metric.evaluate(table)
        assert float(found.value) == float(type(metric)().evaluate(large).value)
        assert int(found.skipped) == 1
