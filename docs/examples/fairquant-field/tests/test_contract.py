"""Every component satisfies the contract of its role."""

import csv

import numpy as np
import pytest
from fairquant_field.activation import Activation
from fairquant_field.chest_xray import ChestXray
from fairquant_field.jain import JainIndex
from fairquant_field.margin import ClassMargin
from fairquant_field.power_mean import PowerMean
from fairquant_field.power_of_two import PowerOfTwo
from fairquant_field.size_aware import SizeAware
from fairquant_field.stochastic import Stochastic
from PIL import Image

from fairquant.testing import (
    AllocatorSuite,
    DatasetSuite,
    ImportanceSuite,
    MetricSuite,
    QuantizerSuite,
    ReducerSuite,
    RegularizerSuite,
    RoundingSuite,
)


class TestJainIndex(MetricSuite):
    @pytest.fixture
    def component(self):
        return JainIndex()


class TestActivation(ImportanceSuite):
    @pytest.fixture
    def component(self):
        return Activation()


class TestPowerMean(ReducerSuite):
    @pytest.fixture
    def component(self):
        return PowerMean()


class TestSizeAware(AllocatorSuite):
    @pytest.fixture
    def component(self):
        return SizeAware()


class TestPowerOfTwo(QuantizerSuite):
    @pytest.fixture
    def component(self):
        return PowerOfTwo()


class TestStochastic(RoundingSuite):
    @pytest.fixture
    def component(self):
        return Stochastic()


class TestClassMargin(RegularizerSuite):
    @pytest.fixture
    def component(self):
        return ClassMargin()


class TestChestXray(DatasetSuite):
    @pytest.fixture
    def component(self, tmp_path):
        """Sixty made-up images of thirty patients."""
        draw = np.random.default_rng(0)
        (tmp_path / "images").mkdir()
        with open(tmp_path / "Data_Entry_2017.csv", "w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"])
            for number in range(60):
                finding = "Effusion|Mass" if number % 3 == 0 else "No Finding"
                writer.writerow([f"{number}.png", finding, number // 2, "058Y", "MF"[number // 2 % 2]])
                pixels = draw.integers(0, 255, (40, 40), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        return ChestXray(root=str(tmp_path))
