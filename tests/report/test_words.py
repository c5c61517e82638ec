"""The audit in words claims only what the intervals support."""

from __future__ import annotations

import pytest
from helpers.reports import run_report

from fairquant.report.words import budget_text, points, size, verdict

FULL = 400_000


def test_a_loss_of_accuracy_is_a_loss_where_its_interval_is_below_zero():
    text = " ".join(verdict(run_report(), FULL))
    assert "Compression reduced accuracy: -5.0 points (95 % interval -8.0 to -2.0), from 80.0 % to 75.0 %." in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ((0.05, 0.01, 0.08), "Accuracy increased: +5.0 points"),
        ((-0.01, -0.05, 0.02), "No change of accuracy that these test images can show"),
    ],
)
def test_a_gain_or_no_change_is_reported_as_such(change, sentence):
    text = " ".join(verdict(run_report(change), FULL))
    assert sentence in text
    assert "reduced" not in text


def test_a_group_lost_accuracy_only_where_its_interval_is_below_zero():
    assert "Group 'dark' lost 10.0 points of accuracy (1.0 to 20.0)." in verdict(run_report(), FULL)
    unclear = verdict(run_report(dark_high=0.01), FULL)
    assert "No group lost accuracy beyond what chance explains on these images." in unclear
    assert not any("lost 10" in sentence for sentence in unclear)


def test_the_worst_group_and_the_most_newly_misclassified_are_named():
    text = " ".join(verdict(run_report(), FULL))
    assert (
        "The worst-served group is 'dark' with an accuracy of 60.0 %, 70.0 % before (interval of the worst group: 50.0 to 70.0 %)"
        in text
    )
    assert "Newly misclassified images are most frequent in 'dark': 15.0 % of its images." in text


def test_bits_and_bytes_come_first():
    assert verdict(run_report(), FULL)[0] == (
        "The model has 2.988 bits per weight on average, within its budget of 3. The file has 50.0 kB, 8.0 times smaller than "
        "0.40 MB in float32."
    )
    full_precision = run_report() | {"budget": {"average_bits": None}}
    assert verdict(full_precision, FULL)[0] == "Full precision, not quantized: the file has 50.0 kB."


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ({"average_bits": None}, ""), ({"average_bits": 2.5}, "2.5"), ({"average_bits": 3.0, "size_bytes": 9e4}, "3 and 90.0 kB in all"),
        ({"average_bits": None, "bops": 12e9}, "12 billion bit operations an image"),
        ({"average_bits": None, "latency_ms": 3.0}, "3 ms in the quantized layers"),
    ],
)  # fmt: skip
def test_a_budget_in_words(budget, text):
    assert budget_text(budget) == text


def test_numbers_in_words():
    assert [points(0.123), points(0.05, signed=True), points(None), points(float("nan"))] == [
        "12.3",
        "+5.0",
        "unknown",
        "unknown",
    ]
    assert [size(99_999), size(100_000), size(2_500_000)] == ["100.0 kB", "0.10 MB", "2.50 MB"]
