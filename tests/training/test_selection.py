"""Which epoch is kept: by any metric, whichever way it is better, also after an interruption."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from fairquant_fair.recall import OperatingPointSensitivity, RecallLoss
from helpers.predictions import decided, random_predictions, wrong_where
from helpers.training import bound, small_network, small_split
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from fairquant.recipe.schema import Component
from fairquant.recipe.sections import EarlyStopping, OperatingPointSettings, TrainSettings
from fairquant.roles import Rates
from fairquant.training.loop import Trainer, train
from fairquant.training.selection import Measures, Selection, accuracies

SETTINGS = TrainSettings(epochs=4, batch_size=8, augment="none", learning_rate=0.01, workers=0)


def test_validation_values_are_accuracies_over_images_classes_and_groups():
    p = random_predictions(count=60)
    right = p.predicted == p.labels
    by_group = [right[p.groups == g].mean() for g in range(3)]
    values = accuracies(p)
    assert values["accuracy"] == pytest.approx(right.mean())
    assert values["balanced-accuracy"] == pytest.approx(balanced_accuracy_score(p.labels, p.predicted))
    assert values["worst-group-accuracy"] == pytest.approx(min(by_group))
    assert values["group-mean-accuracy"] == pytest.approx(np.mean(by_group))


def test_metrics_are_measured_beside_the_full_precision_model_and_at_the_operating_point(registry):
    labels = np.repeat([0, 1, 2], 20)
    reference = decided(labels, labels)
    after = decided(labels, wrong_where(labels, (labels == 1) & (np.arange(60) % 4 == 0)))
    auc = registry.load("metric", "auc")()
    measures = Measures(
        metrics=(Component("recall-loss", RecallLoss()), Component("auc", auc),
                 Component("operating-point-sensitivity", OperatingPointSensitivity())),
        reference=reference, operating=OperatingPointSettings(classes=("NV",), sensitivity=0.7),
    )  # fmt: skip
    values = measures.of(after)
    assert values["recall-loss"] == pytest.approx(0.25)
    assert values["operating-point-sensitivity"] == pytest.approx(0.75)  # the highest threshold with at least .7
    assert values["auc"] == pytest.approx(roc_auc_score(labels, after.probabilities, multi_class="ovr"))
    assert values["accuracy"] == pytest.approx(55 / 60)
    assert [measures.sign(label) for label in ("recall-loss", "auc", "accuracy")] == [-1.0, 1.0, 1.0]


def kept(values, label, measures=None, **settings):
    """The epochs that are kept, one after the other."""
    selection = Selection(replace(SETTINGS, **settings), measures or Measures())
    return [epoch for epoch, value in enumerate(values) if selection.is_best({label: value}, epoch)], selection


def test_an_epoch_is_kept_where_the_metric_is_better_than_ever():
    assert kept([0.5, 0.4, 0.6, math.nan, 0.6, 0.7], "auc", select="auc")[0] == [0, 2, 5]
    lower = Measures(metrics=(Component("recall-loss", RecallLoss()),))
    assert kept([0.5, 0.4, 0.6, math.nan, 0.4, 0.3], "recall-loss", lower, select="recall-loss")[0] == [0, 1, 5]
    assert kept([0.5, 0.6], "auc")[0] == []  # nothing selects: the last epoch stays


def test_one_metric_may_stop_and_another_select():
    settings = replace(SETTINGS, select="auc", early_stopping=EarlyStopping("accuracy", patience=2))
    selection = Selection(settings, Measures())
    rows = [(0.9, 0.1), (0.5, 0.3), (0.5, 0.2), (0.5, 0.9)]  # accuracy is best in epoch 0, auc in 1
    chosen = []
    for epoch, (accuracy, auc) in enumerate(rows):
        if selection.out_of_patience(epoch):
            break
        if selection.is_best({"accuracy": accuracy, "auc": auc}, epoch):
            chosen.append(epoch)
    assert (chosen, epoch) == ([0, 1], 3)


def test_a_restored_selection_goes_on_where_it_was():
    _, selection = kept([0.5, 0.8], "auc", select="auc", early_stopping=EarlyStopping("auc", patience=1))
    again = Selection(
        selection_settings := replace(SETTINGS, select="auc", early_stopping=EarlyStopping("auc", 1)), Measures()
    )
    again.load(selection.state())
    assert not again.is_best({"auc": 0.7}, 2)
    assert again.out_of_patience(3)
    assert not Selection(selection_settings, Measures()).out_of_patience(3)  # knows of no epoch yet


@dataclass(frozen=True)
class Doubtful:
    """Mean probability that is not on the true class: falls while training goes on."""

    needs: ClassVar = "predictions"
    gap: ClassVar = False

    def evaluate(self, p):
        return Rates(np.asarray((1 - p.probabilities[np.arange(len(p.labels)), p.labels]).mean()))


@dataclass(frozen=True)
class LowDoubt(Doubtful):
    lower_is_better: ClassVar = True


def trained(metric, folder=None, stop_after=None, **settings):
    """A training of four epochs selected by the metric: the trainer, its history, and the head's weights after each epoch."""
    heads = []
    trainer = Trainer(
        model=bound(small_network()), train=small_split(32), validation=small_split(8), seed=1,
        checkpoint=None if folder is None else folder / "train.pt", measures=Measures(metrics=(Component("m", metric),)),
    )  # fmt: skip

    def on_epoch(epoch, values):
        heads.append(trainer.model.network[5].weight.detach().clone())
        if epoch == stop_after:
            raise KeyboardInterrupt

    trainer = replace(trainer, on_epoch=on_epoch)
    return trainer, train(trainer, replace(SETTINGS, **settings)), heads


@pytest.mark.parametrize("metric", [Doubtful(), LowDoubt()], ids=["high", "low"])
def test_the_kept_epoch_is_the_best_by_the_metric_without_early_stopping(metric):
    trainer, history, heads = trained(metric, select="m")
    values = [values["m"] for values in history]
    assert len(values) == 4  # all epochs are trained
    best = int(np.argmin(values) if isinstance(metric, LowDoubt) else np.argmax(values))
    torch.testing.assert_close(trainer.model.network[5].weight.detach(), heads[best])
    assert len({float(head.sum()) for head in heads}) == 4


def test_without_select_the_last_epoch_stays():
    trainer, _, heads = trained(Doubtful())
    torch.testing.assert_close(trainer.model.network[5].weight.detach(), heads[-1])


def test_a_resumed_training_keeps_the_epoch_that_was_best_before(tmp_path):
    whole, history, _ = trained(Doubtful(), select="m")
    assert np.argmax([values["m"] for values in history]) == 0
    with pytest.raises(KeyboardInterrupt):
        trained(Doubtful(), tmp_path, stop_after=3, select="m", checkpoint_minutes=1e-9)
    resumed, again, heads = trained(Doubtful(), tmp_path, select="m", checkpoint_minutes=1e-9)
    assert len(heads) < 4
    assert again == history
    torch.testing.assert_close(resumed.model.network[5].weight, whole.model.network[5].weight)
