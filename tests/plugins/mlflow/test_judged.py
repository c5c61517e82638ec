"""A run's description and its limits as metrics."""

from __future__ import annotations

from fairquant_mlflow.judged import description, limits
from helpers.reports import run_report


def limit(name="accuracy", kind="loss", answer="PASS", value=0.01, more=None):
    return {"name": name, "kind": kind, "limit": 0.05, "answer": answer, "value": value, "low": 0.0, "high": None,
            "images": 40, "more_images": more}  # fmt: skip


def report_with(answer, *given):
    return {**run_report(), "accept": {"answer": answer, "limits": list(given)}}


def test_the_description_begins_with_the_answer_and_names_the_limits_that_are_not_kept():
    lines = description(
        report_with(
            "CANNOT TELL", limit("sensitivity of MEL", answer="CANNOT TELL", value=None, more=300), limit("ece", answer="PASS")
        )
    ).splitlines()  # fmt: skip
    assert lines[0] == "**CANNOT TELL**"
    assert lines[2] == (
        "- CANNOT TELL: sensitivity of MEL is unknown, the limit is 0.05 (loss; 40 images; about 300 more would be needed to tell)."
    )
    assert not [line for line in lines if "ece" in line]


def test_the_description_tells_accuracy_the_worst_group_bits_and_bytes():
    report = {key: value for key, value in run_report().items() if key != "accept"}
    assert description(report) == (
        "- Accuracy 75.0 %, -5.0 points against full precision (95 % interval -8.0 to -2.0).\n"
        "- The worst-served group is 'dark': accuracy 60.0 %, 70.0 % before.\n"
        "- 2.988 bits per weight on average; the file has 50.0 kB."
    )


def test_a_demo_says_that_its_numbers_mean_nothing():
    assert description({**run_report(), "recipe": "tiny (DEMO: synthetic data)"}).endswith("The numbers mean nothing.")


def test_a_run_without_groups_or_accuracy_is_described_by_what_it_has():
    report = {key: value for key, value in run_report().items() if key != "accept"}
    assert description({**report, "metrics": {}}) == "- 2.988 bits per weight on average; the file has 50.0 kB."


def test_every_limit_is_two_metrics_and_a_quantity_limited_twice_is_told_apart():
    assert limits(report_with("PASS", limit("ece", value=0.02))) == {"accept/ece": 0.02, "accept/ece/limit": 0.05}
    twice = limits(report_with("PASS", limit("ece", "at most", value=0.02), limit("ece", "rise", value=0.01)))
    assert twice == {
        "accept/ece at most": 0.02, "accept/ece at most/limit": 0.05, "accept/ece rise": 0.01, "accept/ece rise/limit": 0.05,
    }  # fmt: skip
