"""A recipe as parameters and a report as metrics."""

from __future__ import annotations

from fairquant_mlflow.values import final_values, flatten
from helpers.reports import run_report


def test_nested_sections_become_names_with_dots_and_lists_the_names_of_their_components():
    given = {
        "seed": 1, "budget": {"average_bits": 3.0}, "metrics": [{"name": "eodd", "convention": "max"}, {"name": "accuracy"}],
        "quantize": {"choices": [2, 4]},
    }  # fmt: skip
    assert flatten(given) == {
        "seed": 1, "budget.average_bits": 3.0, "metrics.eodd-max.convention": "max", "metrics.accuracy": "on",
        "quantize.choices": [2, 4],
    }  # fmt: skip


def test_groups_called_low_and_high_do_not_replace_the_ends_of_intervals():
    report = run_report()
    metric = report["metrics"]["accuracy"]
    metric["by_group"] = {"low": 0.1, "high": 0.2, "group low": 0.3, "group": 0.4}
    values = final_values(report)
    assert (values["accuracy/low"], values["accuracy/high"]) == (metric["low"], metric["high"])
    assert [values[f"accuracy/{name}"] for name in ("group low", "group high", "group group low", "group")] == [
        0.1,
        0.2,
        0.3,
        0.4,
    ]


def test_final_values_have_groups_intervals_the_baseline_and_changes():
    values = final_values(run_report())
    assert (values["average_bits"], values["artifact_bytes"]) == (2.9876, 50_000)
    assert (values["accuracy"], values["accuracy/dark"], values["baseline/accuracy"]) == (0.75, 0.6, 0.8)
    assert (values["worst-group-accuracy/low"], values["worst-group-accuracy/high"]) == (0.5, 0.7)
    assert (values["change/accuracy"], values["change/accuracy/dark"]) == (-0.05, -0.1)
    assert values["change/harmful_flips/light"] is None
