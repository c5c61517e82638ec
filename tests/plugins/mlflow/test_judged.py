"""A run's description and its limits as metrics."""

from __future__ import annotations

from fairquant_mlflow.judged import description, limits
from helpers.reports import judged_report


def limit(name="accuracy", kind="loss", answer="PASS", value=0.01, more=None):
    return {"name": name, "kind": kind, "limit": 0.05, "answer": answer, "value": value, "low": 0.0, "high": None,
            "images": 40, "more_images": more, "left_out": 0}  # fmt: skip


def test_the_description_begins_with_the_answer_and_the_limit_that_decides_it():
    broken = limit("sensitivity of MEL", answer="FAIL", value=0.11)
    first, empty, *_ = description(judged_report(broken, limit("ece", answer="PASS"), answer="FAIL")).splitlines()
    assert first.startswith("**FAIL: sensitivity of MEL lost 11.0 points")
    assert first.endswith("at most 5.0 allowed. 1 of 2 limits is broken.**")
    assert empty == ""


def test_the_description_tells_accuracy_the_worst_group_bits_and_bytes():
    assert description(judged_report(limit())).splitlines() == [
        "**PASS: the one limit is kept.**", "",
        "- Accuracy 75.0 %, -5.0 points against full precision (95 % interval -8.0 to -2.0).",
        "- The worst-served group is 'dark': accuracy 60.0 %, 70.0 % before.",
        "- 2.988 bits per quantized weight on average; 3.2 % of the weights stay in float32, 3.956 bits over all weights; the file has 50.0 kB.",
    ]  # fmt: skip


def test_the_description_names_who_lost_what():
    cell = {"rate": "sensitivity", "label": "mole", "scope": "dark", "images": 40, "before": 0.9, "after": 0.7,
            "change": {"value": -0.2, "low": -0.3, "high": -0.1}}  # fmt: skip
    lines = description({**judged_report(limit()), "cells": {"lost": [cell], "judged": 3, "undecided": 2}}).splitlines()
    assert lines[2] == "- The limits do not cover everything that was lost beyond chance:"  # the answer is PASS
    assert lines[3].startswith("- Of 100 patients with mole in 'dark', the full-precision model finds 90, this one 70")
    assert lines[4].startswith("- 2 of 5 sensitivities and specificities cannot be judged one by one")


def test_a_demo_says_that_its_numbers_mean_nothing():
    assert description({**judged_report(limit()), "recipe": "tiny (DEMO: synthetic data)"}).endswith(
        "The numbers mean nothing."
    )


def test_a_run_without_groups_or_accuracy_is_described_by_what_it_has():
    bits = "- 2.988 bits per quantized weight on average; 3.2 % of the weights stay in float32, 3.956 bits over all weights; the file has 50.0 kB."
    assert description({**judged_report(limit()), "metrics": {}}).splitlines()[2:] == [bits]


def test_every_limit_is_two_metrics_and_a_quantity_limited_twice_is_told_apart():
    assert limits(judged_report(limit("ece", value=0.02))) == {"accept/ece": 0.02, "accept/ece/limit": 0.05}
    twice = limits(judged_report(limit("ece", "at most", value=0.02), limit("ece", "rise", value=0.01)))
    assert twice == {
        "accept/ece at most": 0.02, "accept/ece at most/limit": 0.05, "accept/ece rise": 0.01, "accept/ece rise/limit": 0.05,
    }  # fmt: skip
