"""A class of tests per role: the data sets that need files keep the contract, and unknown checks are refused."""

from __future__ import annotations

import csv
from typing import ClassVar

import numpy as np
import pytest
from fairquant_datasets.fitzpatrick17k import Fitzpatrick17k
from fairquant_datasets.image_table import ImageTable
from fairquant_datasets.isic2019 import Isic2019
from PIL import Image

from fairquant.testing import CHECKS, DatasetSuite, MetricSuite


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


def test_a_suite_cannot_expect_an_unknown_check_to_fail():
    with pytest.raises(TypeError, match="no check of role 'metric' is called 'equal_groups'. Did you mean"):

        class TestUnknown(MetricSuite):
            expected_failures: ClassVar = {"equal_groups": "?"}


def test_a_suite_has_a_test_for_every_check_of_its_role():
    for suite in (DatasetSuite, MetricSuite):
        tests = {name.removeprefix("test_") for name in dir(suite) if name.startswith("test_")}
        assert tests == {check.name for check in CHECKS[suite.role]}
