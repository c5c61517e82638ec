"""Options of the training for small groups: balanced samplers, running group losses, features, teacher, batch norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fairquant.data.loading import TrainingBatches, sampling_chances
from fairquant.errors import UserError
from fairquant.roles import Batch, Split, Step
from fairquant.training.batch_norm import draw_train_subset, reestimate_batch_norm
from fairquant.training.observe import RunningLosses, capture_features


class Ramp:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((3, 4, 4), float(index))


def split() -> Split:
    """90 images of group 0 and 10 of group 1; class 1 is rare in either."""
    groups = np.repeat([0, 1], [90, 10]).astype(np.int64)
    labels = np.zeros(100, np.int64)
    labels[[0, 1, 2, 95]] = 1
    return Split(Ramp(100), labels, groups, tuple(map(str, range(100))))


def test_balanced_samplers_draw_groups_or_cells_alike():
    data = split()
    assert sampling_chances(data, "uniform") is None
    by_group = sampling_chances(data, "group-balanced")
    assert by_group[data.groups == 1].sum() == pytest.approx(0.5)
    by_cell = sampling_chances(data, "group-class-balanced")
    for group in (0, 1):
        for label in (0, 1):
            assert by_cell[(data.groups == group) & (data.labels == label)].sum() == pytest.approx(0.25)


def test_a_balanced_epoch_has_the_same_length_is_even_and_goes_on_where_it_was():
    batches = TrainingBatches(split(), 10, "none", seed=3, sampler="group-balanced")
    drawn = [batch.groups for epoch in range(20) for batch in batches.epoch(epoch)]
    assert len(drawn) == 20 * 10
    assert float(torch.cat(drawn).float().mean()) == pytest.approx(0.5, abs=0.05)
    whole = [batch.rows.tolist() for batch in batches.epoch(5)]
    assert [batch.rows.tolist() for batch in batches.epoch(5, skip=4)] == whole[4:]


def test_running_losses_remember_groups_that_are_missing():
    memory = RunningLosses(2)

    def step(losses, groups):
        return Step(losses=torch.tensor(losses), logits=torch.zeros(2, 2), labels=torch.zeros(2, dtype=torch.long), groups=torch.tensor(groups), group_count=2)

    assert torch.isnan(memory.update(step([1.0, 3.0], [0, 0]), 0.9)[1])
    assert memory.update(step([4.0, 6.0], [1, 1]), 0.9).tolist() == [2.0, 5.0]
    assert memory.update(step([2.0, 15.0], [0, 1]), 0.9).tolist() == pytest.approx([2.0, 6.0])


def test_features_are_what_the_classifier_is_given():
    import timm

    model = timm.create_model("resnet10t", num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    with capture_features(model) as seen, torch.no_grad():
        logits = model(images)
    assert torch.allclose(model.get_classifier()(seen[-1]), logits)
    with capture_features(None) as seen:
        model(images)
    assert not seen
    with (
        pytest.raises(UserError, match="ends in no Linear layer"),
        capture_features(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())),
    ):
        pass


def test_batch_norm_gets_the_statistics_of_the_images_and_keeps_all_else():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.5)).eval()
    model[1].running_mean.fill_(9.0)
    images = torch.randn(40, 3, 5, 5)
    zeros = torch.zeros(20, dtype=torch.long)
    weight = model[0].weight.clone()
    assert reestimate_batch_norm(model, [Batch(batch, zeros, zeros) for batch in images.split(20)]) == 1
    seen = model[0](images)
    assert torch.allclose(model[1].running_mean, seen.mean((0, 2, 3)), atol=1e-5)
    expected = torch.stack([batch.var((0, 2, 3)) for batch in seen.split(20)]).mean(0)
    assert torch.allclose(model[1].running_var, expected, atol=1e-5)
    assert (model[1].momentum, model.training, model[1].training) == (0.3, False, False)
    assert torch.equal(model[0].weight, weight)
    assert reestimate_batch_norm(nn.Linear(2, 2), []) == 0


def test_balanced_images_for_batch_norm_hold_every_group_alike():
    data = split()
    even = draw_train_subset(data, 40, 3, seed=0, balanced=True)  # a third group without images is no harm
    assert np.bincount(even.groups).tolist() == [20, 20]
    plain = draw_train_subset(data, 40, 3, seed=0, balanced=False)
    assert len(plain) == 40
    assert len(set(plain.ids)) == 40


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
