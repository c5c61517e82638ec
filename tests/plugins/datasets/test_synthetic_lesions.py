"""Lesions drawn in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fairquant_datasets.synthetic_lesions import SyntheticLesions

from fairquant.roles import DataContext


def test_synthetic_lesions_are_the_same_every_time_and_darker_skin_is_harder():
    dataset = SyntheticLesions(images=300, groups="six")
    one, two = (dataset.load(DataContext(seed, 32, Path("cache"))) for seed in (0, 5))
    assert one.fingerprint == two.fingerprint
    assert np.array_equal(one.train.images[7].numpy(), two.train.images[7].numpy())
    assert len(one.class_names) == 6
    fractions = np.bincount(one.train.groups, minlength=6)
    assert fractions[0] > 2 * fractions[5]
    # the lesion at the centre stands out less on dark skin
    contrast = []
    for tones in ((0, 1), (4, 5)):
        rows = np.flatnonzero(np.isin(one.train.groups, tones))
        images = np.stack([one.train.images[int(row)].numpy() for row in rows]).astype(float)
        contrast.append(np.abs(images[:, :, 12:20, 12:20].mean((2, 3)) - images[:, :, :4, :4].mean((2, 3))).mean())
    assert contrast[1] < 0.6 * contrast[0]
