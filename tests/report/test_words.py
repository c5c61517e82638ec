"""The audit in words claims only what the intervals support."""

from __future__ import annotations

import re

import pytest
from helpers.reports import run_report

from fairquant.bits.fallback import Comparison, Deviation
from fairquant.report.answer import points, size
from fairquant.report.words import budget_text, making_sentences, verdict

FULL = 400_000


def test_a_loss_of_accuracy_is_a_loss_where_its_interval_is_below_zero():
    text = " ".join(verdict(run_report(), FULL))
    assert "Compression reduced accuracy: -5.0 points (95 % interval -8.0 to -2.0), from 80.0 % to 75.0 %." in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ((0.05, 0.01, 0.08), "Accuracy increased: +5.0 points"),
        ((-0.01, -0.05, 0.02), "Accuracy changed by -1.0 points"),
    ],
)
def test_a_gain_or_no_change_is_reported_as_such(change, sentence):
    text = " ".join(verdict(run_report(change), FULL))
    assert sentence in text
    assert "reduced" not in text


def test_a_group_lost_accuracy_only_where_its_interval_is_below_zero():
    assert "Group 'dark' lost 10.0 points of accuracy (1.0 to 20.0)." in verdict(run_report(), FULL)
    unclear = verdict(run_report(dark_high=0.01), FULL)
    assert not any("lost 10" in sentence for sentence in unclear)


def test_without_labels_accuracy_is_said_to_be_agreement():
    report = run_report()
    report["dataset"]["labels"] = "the model's own answers"
    first = verdict(report, FULL)[0]
    assert first.startswith("CANNOT TELL: no labels were given, so that no limit can be judged.")
    assert "agreement with the full-precision model" in first


def test_how_the_plan_was_chosen_and_rounded():
    assert making_sentences(run_report()) == []
    blocks = {"learned": 3, "unchanged": 1}
    rounding = {"name": "block", "images": 64, "layers": 9, "compensated": 8, "blocks": blocks}
    compared = Comparison(
        plan=Deviation(changed=0.1, divergence=0.2), uniform=Deviation(changed=0.3, divergence=0.4), images=50
    )
    report = run_report() | {"rounding": rounding, "fallback": {"text": str(compared)}}
    assert making_sentences(report) == [
        "Comparison of the plan against uniform bits, without training, in the worst-served group of 50 validation images: plan 10.0 % of "
        "images get another class (divergence 0.2); uniform bits 30.0 % of images get another class (divergence 0.4). The plan is taken.",
        "Rounded by block with 64 calibration images and no labels: 8 of 9 layers with error compensation; 3 of 4 blocks learned as a "
        "whole.",
    ]


def test_a_file_that_grew_is_not_said_to_be_smaller():
    assert "The file has 50.0 kB, 2.0 times the 25.0 kB in float32." in verdict(run_report(), 25_000)[-1]


def test_silence_is_never_given_as_safety():
    """Where no loss is shown, nothing says that there was none: the counts of what could not be judged stand instead."""
    quiet = run_report((-0.01, -0.05, 0.02), dark_high=0.01) | {"cells": {"lost": [], "judged": 5, "undecided": 7}}
    text = " ".join(verdict(quiet, FULL))
    assert re.search(r"\b(no|none of the) (group|class|change|loss)", text.lower()) is None
    assert (
        "7 of 12 sensitivities and specificities cannot be judged one by one, because too few of their images changed"
        in text
    )
    assert "that none is named here does not mean that none lost" in text


def test_the_worst_group_and_the_most_newly_misclassified_are_named():
    text = " ".join(verdict(run_report(), FULL))
    assert (
        "The worst-served group is 'dark' with an accuracy of 60.0 %, 70.0 % before (interval of the worst group: 50.0 to 70.0 %)"
        in text
    )
    assert "Newly misclassified images are most frequent in 'dark': 15.0 % of its images." in text


def test_the_answer_comes_first_then_who_lost_what_and_bytes_last():
    sentences = verdict(run_report(), FULL)
    assert sentences[0] == (
        "FAIL: sensitivity of wart in 'dark' lost 20.0 points (loss 10.0 to 30.0), at most 5.0 allowed. 1 of 3 limits is broken, 1 "
        "cannot be judged."
    )
    assert sentences[1].startswith(
        "Of 100 patients with wart in 'dark', the full-precision model finds 70, this one 44: a loss"
    )
    assert sentences[-1] == (
        "The model has 2.988 bits per quantized weight on average, within its budget of 3; 3.2 % of the weights stay in float32, "
        "3.956 bits over all weights. The file has 50.0 kB, 8.0 times smaller than "
        "0.40 MB in float32."
    )
    full_precision = run_report() | {"budget": {"average_bits": None}}
    assert verdict(full_precision, FULL)[-1] == "Full precision, not quantized: the file has 50.0 kB."


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
