"""The data sets that need files keep the contract too: a made-up table here, the real ones where they are."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from fairquant_datasets.fitzpatrick17k import Fitzpatrick17k
from fairquant_datasets.image_table import ImageTable
from fairquant_datasets.isic2019 import Isic2019
from PIL import Image

from fairquant.testing import DatasetSuite


class TestImageTable(DatasetSuite):
    @pytest.fixture
    def component(self, tmp_path):
        draw = np.random.default_rng(0)
        with open(tmp_path / "table.csv", "w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["image", "label", "sex", "age"])
            for number in range(60):
                writer.writerow(
                    [f"{number}.png", "xy"[number % 2], "fm"[number // 2 % 2], ["old", "young"][number // 4 % 2]]
                )
                Image.fromarray(draw.integers(0, 255, (40, 44, 3), np.uint8)).save(tmp_path / f"{number}.png")
        return ImageTable(table=str(tmp_path / "table.csv"), attributes=("sex", "age"))


class TestIsic2019(DatasetSuite):
    @pytest.fixture
    def component(self, isic_root):
        return Isic2019(root=str(isic_root), attribute="sex-age")


class TestFitzpatrick17k(DatasetSuite):
    @pytest.fixture
    def component(self, fitzpatrick_root):
        return Fitzpatrick17k(root=str(fitzpatrick_root), groups="six")
