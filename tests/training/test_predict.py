"""Logits of every image of a split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.training import bound, small_network, small_split

from fairquant.training.predict import predict


@pytest.mark.parametrize("batch_size", [5, 64])
def test_logits_are_those_of_the_network_in_evaluation_mode_in_the_order_of_the_split(batch_size):
    split, model = small_split(12), bound(small_network())
    model.network.train()
    predictions = predict(model, split, batch_size)
    assert model.network.training
    with torch.no_grad():
        images = model.normalization(torch.stack([split.images[row] for row in range(12)]))
        expected = model.network.eval()(images).numpy()
    np.testing.assert_allclose(predictions.logits, expected, atol=1e-5)
    assert np.array_equal(predictions.labels, split.labels)
    assert predictions.ids == split.ids


def test_running_statistics_stay_as_they_were():
    model = bound(small_network())
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    predict(model, small_split(8))
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())


def test_an_empty_split_has_no_logits_but_all_classes():
    assert predict(bound(small_network()), small_split(8).subset(np.arange(0))).logits.shape == (0, 2)
