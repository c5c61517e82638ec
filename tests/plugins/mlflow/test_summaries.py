"""What a parent run says of the whole."""

from __future__ import annotations

import json
from pathlib import Path

from fairquant_mlflow.store import LONGEST, safe_name
from fairquant_mlflow.summaries import comparison_values, study_values, table


def written(name: str, content: object) -> Path:
    Path(name).write_text(json.dumps(content))
    return Path(name)


def row(name: str, accuracy: float, seeds: tuple[int, ...] = (0, 1)) -> dict:
    metrics = {"accuracy": {"mean": accuracy}, "ece": {"mean": 0.1}, "accuracy-gap": {"mean": None}} if seeds else {}
    return {"name": name, "seeds": list(seeds), "metrics": metrics, "bits": {"mean": 3.0}, "megabytes": {"mean": 1.5}}


def test_a_comparison_has_each_rows_mean_of_each_headline_metric():
    runs = [{"problem": None}, {"problem": None}, {"problem": "cannot meet the budget"}]
    rows = [row("fp32", 0.8), row("fq-baq @ 1.5", 0.7), row("fairquantize @ 1.5", 0.0, ())]
    values = comparison_values(written("compare.json", {"rows": rows, "runs": runs}))
    assert values == {
        "runs": 3, "runs/failed": 1, "methods/accuracy/fp32": 0.8, "methods/accuracy/fq-baq at 1.5 bits": 0.7,
        "methods/accuracy-gap/fp32": None, "methods/accuracy-gap/fq-baq at 1.5 bits": None,
        "methods/average_bits/fp32": 3, "methods/average_bits/fq-baq at 1.5 bits": 3,
        "methods/megabytes/fp32": 1.5, "methods/megabytes/fq-baq at 1.5 bits": 1.5,
    }  # fmt: skip
    assert [safe_name(name) for name in values] == list(values)


def test_a_study_has_its_trials_by_state_and_the_best_of_each_objective_among_those_that_keep_the_constraints():
    trials = [
        {"number": 0, "state": "complete", "validation": {"accuracy": 0.7, "bits": 3.0}},
        {"number": 1, "state": "complete", "validation": {"accuracy": 0.6, "bits": 2.0}},
        {"number": 2, "state": "infeasible", "validation": {"accuracy": 0.9, "bits": 1.0}},
        {"number": 3, "state": "failed", "validation": {}},
    ]
    objectives = [{"quantity": "accuracy", "direction": "maximize"}, {"quantity": "bits", "direction": "minimize"}]
    values = study_values(written("study.json", {"results": {"trials": trials, "objectives": objectives}}))
    assert values == {
        "trials": 4, "trials/complete": 2, "trials/infeasible": 1, "trials/pruned": 0, "trials/failed": 1, "trials/unfinished": 0,
        "best/accuracy": 0.7, "best/bits": 2.0,
    }  # fmt: skip


def test_a_study_without_a_complete_trial_has_no_best():
    trials = [{"number": 0, "state": "pruned", "validation": {}}]
    objectives = [{"quantity": "accuracy", "direction": "maximize"}]
    values = study_values(written("study.json", {"results": {"trials": trials, "objectives": objectives}}))
    assert not [name for name in values if name.startswith("best")]


def test_a_table_that_is_too_long_is_cut_at_a_line():
    Path("compare.md").write_text("| a row |\n" * 2000)
    text = table(Path("compare.md"))
    assert 0 < len(text) <= LONGEST
    assert set(text.splitlines()) == {"| a row |"}
    Path("compare.md").write_text("| a row |\n")
    assert table(Path("compare.md")) == "| a row |\n"
