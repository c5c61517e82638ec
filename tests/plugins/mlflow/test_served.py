"""What MLflow serves: raw pictures in, probabilities by class out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fairquant_mlflow.served import PREDICTED, open_served
from helpers.artifacts import CLASSES, SIZE

import fairquant
from fairquant.errors import UserError


def pixels(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


def test_probabilities_are_those_of_the_loaded_artifact(untrained_artifact):
    given = pixels(40)  # more than one batch
    table = open_served(untrained_artifact).predict(given)
    images = (torch.from_numpy(given).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.2  # mean and std of the file
    with torch.no_grad():
        expected = fairquant.load(untrained_artifact)(images).softmax(1).numpy()
    assert list(table.columns) == [*CLASSES, PREDICTED]
    assert np.allclose(table[CLASSES].to_numpy(), expected, atol=1e-5)
    assert list(table[PREDICTED]) == [CLASSES[best] for best in expected.argmax(1)]
    assert len(set(map(tuple, table[CLASSES].to_numpy()))) > 1


def test_no_pictures_give_no_rows(untrained_artifact):
    assert open_served(untrained_artifact).predict(pixels(0)).shape == (0, len(CLASSES) + 1)


@pytest.mark.parametrize(
    "given", [pixels(2, SIZE + 1), pixels(2).astype(np.float32), pixels(2)[0], pixels(2).transpose(0, 3, 1, 2)]
)
def test_pixels_of_another_form_are_refused(untrained_artifact, given):
    with pytest.raises(UserError, match=rf"uint8 \[N, {SIZE}, {SIZE}, 3\], not {given.dtype}"):
        open_served(untrained_artifact).predict(given)
