"""The training loop: its options, deterministic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fairquant_paper.baq import Baq
from helpers.training import bound, small_network, small_split
from torch import nn

from fairquant.bits import attach, find_layers, plan_of
from fairquant.bits.problem import BitChoices, Budget
from fairquant.errors import TrainingDiverged
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import EarlyStopping, TrainSettings
from fairquant.training.checkpoints import load_checkpoint, save_checkpoint
from fairquant.training.loop import Trainer, train
from fairquant.training.objective import class_weights


@pytest.mark.parametrize(
    "options",
    [
        ["regularizers=[{name: nir}, {name: feature-mmd}, {name: distillation, balanced: true}]"],
        ["regularizers=[{name: group-dro}, {name: loss-gap}]", "train.running_group_losses=0.9",
         "train.sampler=group-balanced", "train.batch_norm=re-estimate-group-balanced"],
    ],
    ids=["features and teacher", "memories"],
)  # fmt: skip
def test_a_run_with_these_options_is_the_same_twice(tmp_path, options):
    from fairquant.api import run

    reports = [
        run(
            "quickstart",
            "method=fq-qat",
            *options,
            "train.epochs=1",
            "baseline.epochs=1",
            "dataset.images=120",
            "tracking.mlflow=null",
            demo=True,
            runs=tmp_path / name,
        )
        for name in ("one", "two")
    ]
    one, two = (np.load(result.folder / "predictions.npz") for result in reports)
    assert np.array_equal(one["logits"], two["logits"])
    assert not np.array_equal(one["logits"], one["baseline_logits"])


def trainer(**more) -> Trainer:
    network = small_network()
    return Trainer(
        **{
            "model": bound(network),
            "train": small_split(32),
            "validation": small_split(8),
            "seed": 1,
            "checkpoint": None,
            **more,
        }
    )


SETTINGS = TrainSettings(epochs=3, batch_size=8, augment="none", learning_rate=0.01, workers=0)


def weights_of(trained: Trainer) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in trained.model.network.state_dict().values()])


def test_training_lowers_the_loss_and_reports_every_epoch():
    epochs = []
    values = train(trainer(on_epoch=lambda epoch, values: epochs.append(epoch)), replace(SETTINGS, epochs=6))
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert values[-1]["loss"] < 0.8 * values[0]["loss"]
    assert set(values[0]) >= {"loss", "penalty", "train-accuracy", "accuracy", "worst-group-accuracy"}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    runs = [trainer(), trainer(), trainer(seed=2)]
    for each in runs:
        train(each, SETTINGS)
    one, same, other = map(weights_of, runs)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [2, 4, 7])
def test_a_training_stopped_within_an_epoch_or_between_two_resumes_to_the_same_weights(tmp_path, after):
    """Four steps an epoch; every step is saved."""
    settings = replace(SETTINGS, checkpoint_minutes=1e-9, optimizer="adamw")
    whole = trainer()
    history = train(whole, settings)

    def stop(done, total):
        if done == after + 1:
            raise Stopped

    stopped = trainer(checkpoint=tmp_path / "train.pt", on_step=stop)
    with pytest.raises(Stopped):
        train(stopped, settings)
    resumed = trainer(checkpoint=tmp_path / "train.pt")
    steps = []
    told = []
    again = train(
        replace(resumed, on_step=lambda done, total: steps.append(done), on_resume=lambda *done: told.append(done)),
        settings,
    )
    assert steps[0] == after + 1
    assert told == [divmod(after, 4)]
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert again == history


def test_early_stopping_returns_the_best_epoch_and_stops_when_patience_is_over():
    settings = replace(SETTINGS, epochs=9, learning_rate=1e-12, early_stopping=EarlyStopping(patience=2))
    trained = trainer()
    before = trained.model.network[0].weight.detach().clone()
    assert len(train(trained, settings)) == 3  # the first epoch is the best: nothing is learned at this rate
    torch.testing.assert_close(trained.model.network[0].weight, before)


def test_a_loss_that_is_not_finite_stops_the_training_with_advice(tmp_path):
    class Infinite:
        def penalty(self, step):
            return step.losses.sum() * float("inf")

    with pytest.raises(
        TrainingDiverged, match=r"the penalty of regularizer 'infinite' is inf in epoch 1, step 1. Lower the"
    ):
        train(trainer(regularizers=(Component("infinite", Infinite()),), checkpoint=tmp_path / "train.pt"), SETTINGS)


def test_a_last_step_that_leaves_no_numbers_stops_the_training(tmp_path):
    class Poison:
        """Its penalty is 0; its gradient is not a number, which the loss of the next step would show, if there were one."""

        def penalty(self, step):
            return step.logits.sum().square().sqrt() * 0 + (step.logits.sum() * 0).sqrt()

    settings = replace(SETTINGS, epochs=1, batch_size=32, clip_norm=None)
    with pytest.raises(TrainingDiverged, match=r"epoch 1.* (no numbers|NaN or infinite)"):
        train(trainer(regularizers=(Component("poison", Poison()),), checkpoint=tmp_path / "train.pt"), settings)


@pytest.mark.parametrize("damage", ["other", "bytes", "key"])
def test_a_checkpoint_of_another_training_or_damaged_or_without_its_keys_is_put_aside(damage, tmp_path):
    file = tmp_path / "train.pt"
    first = trainer(checkpoint=file, made_for="a")
    train(first, SETTINGS)
    if damage == "bytes":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    if damage == "key":
        saved = load_checkpoint(file, torch.device("cpu"), "a")
        del saved["sums"]
        save_checkpoint(file, saved, "a")
    again = trainer(checkpoint=file, made_for="b" if damage == "other" else "a")
    history = train(again, SETTINGS)
    assert len(history) == SETTINGS.epochs
    assert (tmp_path / "train.broken").exists()
    fresh = trainer(checkpoint=None)
    train(fresh, SETTINGS)
    mine, theirs = again.model.network.state_dict(), fresh.model.network.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_regularizer_gets_the_memory_it_made_and_the_inputs_it_needs():
    class Curious:
        needs = frozenset({"features", "teacher"})

        def memory(self):
            return nn.Linear(1, 1)

        def penalty(self, step):
            seen.append((type(step.memory), step.features.shape, step.teacher.shape, step.group_count))
            return step.losses.sum() * 0

    seen = []
    train(
        trainer(regularizers=(Component("curious", Curious()),), teacher=small_network(5)), replace(SETTINGS, epochs=1)
    )
    assert seen == [(nn.Linear, (8, 6), (8, 2), 2)] * 4


def test_learned_bits_are_frozen_on_the_budget_when_their_time_is_over():
    learning = trainer()
    layers = find_layers(learning.model.network, "channel")
    plan = plan_of(layers, torch.full((8,), 4))
    attachment = attach(layers, Baq(), plan, BitChoices((2, 4, 8)), Budget(4.0))
    learned = []
    train(
        replace(learning, attachment=attachment, on_epoch=lambda epoch, values: learned.append(attachment.learns_bits)),
        replace(SETTINGS, freeze_bits_after=0.5),
    )
    assert learned == [True, False, False]
    assert attachment.average() <= 4.0


def test_balanced_classes_weigh_equally_in_the_loss():
    labels = np.array([0] * 24 + [1] * 8)
    split = replace(small_split(32), labels=labels)
    weights = class_weights(split, 2, replace(SETTINGS, class_balanced=True))
    assert float(weights[0] * 24) == pytest.approx(float(weights[1] * 8))
    assert float(weights[torch.from_numpy(labels)].mean()) == pytest.approx(1)
