"""Training in rounds: a growing fraction of the units keeps its weights."""

from __future__ import annotations

import numpy as np
import torch
from fairquant_paper.uniform import Uniform
from torch import nn

from fairquant.bits import attach, find_layers
from fairquant.bits.problem import BitChoices, Budget
from fairquant.data.transforms import Normalization
from fairquant.recipe.sections import TrainSettings
from fairquant.roles import BitPlan, Split
from fairquant.training.loop import Trainer, train
from fairquant.training.model import Model
from fairquant.training.rounds import frozen_fraction


def test_the_frozen_fraction_grows_by_the_round_and_some_units_always_train():
    settings = TrainSettings(epochs=8, rounds=4)
    assert [frozen_fraction(settings, epoch) for epoch in range(8)] == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert [frozen_fraction(TrainSettings(epochs=2, rounds=4), epoch) for epoch in range(2)] == [0, 0.5]
    assert frozen_fraction(TrainSettings(epochs=5), 4) == 0


class Noise:
    def __init__(self) -> None:
        self.images = torch.randint(
            0, 255, (32, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
        )

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def make():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    layers = find_layers(model, "channel")
    plan = BitPlan({l.name: torch.full((l.units,), 4) for l in layers}, {l.name: l.unit_size for l in layers})
    scores = torch.tensor([5.0, 1, 4, 2, 9, 8, 0.5, 7])  # six channels, then two outputs
    bound = Model(
        network=model, normalization=Normalization((0.5,) * 3, (0.5,) * 3), device=torch.device("cpu"),
        group_names=("a", "b"), class_names=("x", "y"),
    )  # fmt: skip
    return bound, layers, attach(layers, Uniform(), plan, BitChoices((4,)), Budget(4.0), scores)


def test_the_least_important_units_stop_first(tmp_path):
    model, layers, attachment = make()
    labels, groups = np.arange(32) % 2, np.arange(32) // 16
    split = Split(Noise(), labels.astype(np.int64), groups.astype(np.int64), tuple(map(str, range(32))))
    seen = []

    def remember(epoch, values):
        seen.append([layer.weight.detach().clone() for layer in layers])

    train(
        Trainer(
            model=model, train=split, validation=split.subset(np.arange(0)), seed=0, checkpoint=tmp_path / "train.pt",
            attachment=attachment, on_epoch=remember,
        ),
        TrainSettings(epochs=4, rounds=4, batch_size=8, augment="none", learning_rate=0.01, workers=0),
    )  # fmt: skip

    def moved(epoch):
        now, before = seen[epoch], seen[epoch - 1]
        return [
            bool((a != b).any()) for new, old in zip(now, before, strict=True) for a, b in zip(new, old, strict=True)
        ]

    # ascending scores: unit 6 (0.5), 1 (1), 3 (2), 2 (4), 0 (5), 7 (7), 5 (8), 4 (9)
    assert moved(1) == [True, False, True, True, True, True, False, True]
    assert moved(2) == [True, False, False, False, True, True, False, True]
    assert moved(3) == [False, False, False, False, True, True, False, False]
