"""Training on an accelerator: the predictions of the CPU, and no tensor of the wrong place."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from fairquant_fair.distillation import Distillation
from fairquant_fair.regularizers import BitBudget, GroupVariance
from fairquant_fair.robust import GroupDro
from fairquant_paper.baq import Baq
from fairquant_paper.regularizers import LossGap
from fairquant_paper.uniform import Uniform
from helpers.elsewhere import ELSEWHERE, accelerator, moved
from helpers.training import bound, small_network, small_split

from fairquant.bits import attach, find_layers, plan_of
from fairquant.bits.problem import BitChoices, Budget
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import TrainSettings
from fairquant.training.loop import Trainer, train
from fairquant.training.predict import predict

REGULARIZERS = {
    "loss-gap": LossGap(), "group-variance": GroupVariance(), "group-dro": GroupDro(),
    "distillation": Distillation(balanced=True), "bit-budget": BitBudget(),
}  # fmt: skip


def trained(quantizer, there: bool) -> np.ndarray:
    """Logits after two epochs with every kind of regularizer, the bits learned where the quantizer does."""
    network = moved(small_network()) if there else small_network()
    model = replace(bound(network), device=ELSEWHERE if there else torch.device("cpu"))
    split, settings = small_split(), TrainSettings(epochs=2, batch_size=8, optimizer="sgd", augment="flips", workers=0)
    with accelerator() if there else nullcontext():
        teacher = model.copy().network
        layers = find_layers(network, "channel")
        plan = plan_of(layers, torch.arange(sum(layer.units for layer in layers)) % 4 + 1)
        attachment = attach(layers, quantizer, plan, BitChoices(tuple(range(9))), Budget(3.0))
        train(
            Trainer(
                model=model, train=split, validation=split, seed=0, checkpoint=None, attachment=attachment, teacher=teacher,
                regularizers=[Component(name, each) for name, each in REGULARIZERS.items()],
            ),
            settings,
        )  # fmt: skip
        attachment.project_to_budget()
        attachment.encode()
        attachment.detach()
        return predict(model, split).logits


@pytest.mark.parametrize("quantizer", [Uniform(), Uniform("learned"), Baq(), Baq("fractional")], ids=str)
def test_training_gives_the_predictions_of_the_cpu(quantizer):
    np.testing.assert_allclose(trained(quantizer, there=True), trained(quantizer, there=False), rtol=1e-5, atol=1e-6)
