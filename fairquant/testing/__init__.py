"""The conformance kit: one suite class per role, for pytest; `pip install "fairquant[testing]"`.

    from fairquant.testing import MetricSuite

    class TestJainIndex(MetricSuite):
        @pytest.fixture
        def component(self):
            return JainIndex()

Every rule of the role becomes a test. A rule that a component cannot keep is declared with its reason, and is then
required to fail: `expected_failures = {"equal_groups_have_no_gap": "it compares with a fixed target"}`.
"""

from __future__ import annotations

from fairquant.testing.run import CHECKS, conformance
from fairquant.testing.suites import (
    AllocatorSuite,
    DatasetSuite,
    ImportanceSuite,
    MetricSuite,
    QuantizerSuite,
    ReducerSuite,
    RegularizerSuite,
    RoundingSuite,
)

__all__ = [
    "CHECKS", "AllocatorSuite", "DatasetSuite", "ImportanceSuite", "MetricSuite", "QuantizerSuite", "ReducerSuite",
    "RegularizerSuite", "RoundingSuite", "conformance",
]  # fmt: skip
