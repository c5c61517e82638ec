"""What a comparison or a study as a whole has found, as metrics of the parent run.

The names begin with a word of their own, so that no metric of the parent looks like that of one of its runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from fairquant_mlflow.store import LONGEST

#: Metrics of compare.json that the parent of a comparison shows for every row.
HEADLINES = ("accuracy", "worst-group-accuracy", "accuracy-gap")
STATES = ("complete", "infeasible", "pruned", "failed", "unfinished")


class _Mean(TypedDict):
    mean: float | None


class _Row(TypedDict):
    name: str
    seeds: list[int]
    metrics: dict[str, _Mean]
    bits: _Mean
    megabytes: _Mean


class _Run(TypedDict):
    problem: str | None


class _Comparison(TypedDict):
    rows: list[_Row]
    runs: list[_Run]


class _Objective(TypedDict):
    quantity: str
    direction: str


class _Trial(TypedDict):
    number: int
    state: str
    validation: dict[str, float | None]


class _Results(TypedDict):
    objectives: list[_Objective]
    trials: list[_Trial]


def comparison_values(file: Path) -> dict[str, float | None]:
    """runs, runs/failed, and methods/<metric>/<row>: the mean over seeds. So one metric's rows stand side by side."""
    content: _Comparison = json.loads(file.read_text(encoding="utf-8"))
    runs, rows = content["runs"], [row for row in content["rows"] if row["seeds"]]
    values: dict[str, float | None] = {
        "runs": float(len(runs)), "runs/failed": float(sum(run["problem"] is not None for run in runs)),
    }  # fmt: skip
    for row in rows:
        name = _row_name(row["name"])
        for metric in HEADLINES:
            if metric in row["metrics"]:
                values[f"methods/{metric}/{name}"] = row["metrics"][metric]["mean"]
        values[f"methods/average_bits/{name}"] = row["bits"]["mean"]
        values[f"methods/megabytes/{name}"] = row["megabytes"]["mean"]
    return values


def _row_name(row: str) -> str:
    """fq-baq @ 3 -> fq-baq at 3 bits: MLflow accepts no @."""
    return f"{row.replace(' @ ', ' at ')} bits" if " @ " in row else row


def study_values(file: Path) -> dict[str, float | None]:
    """trials, trials/<state>, and best/<quantity> of each objective: on validation, among trials that keep the constraints."""
    content: dict[str, _Results] = json.loads(file.read_text(encoding="utf-8"))
    trials, objectives = content["results"]["trials"], content["results"]["objectives"]
    values: dict[str, float | None] = {"trials": float(len(trials))}
    values |= {f"trials/{state}": float(sum(trial["state"] == state for trial in trials)) for state in STATES}
    for objective in objectives:
        quantity = objective["quantity"]
        reached = [trial["validation"].get(quantity) for trial in trials if trial["state"] == "complete"]
        known = [value for value in reached if value is not None]
        if known:
            values[f"best/{quantity}"] = max(known) if objective["direction"] == "maximize" else min(known)
    return values


def table(file: Path) -> str:
    """The comparison's Markdown as a description, cut at a line where it is too long."""
    text = file.read_text(encoding="utf-8")
    return text if len(text) <= LONGEST else text[:LONGEST].rpartition("\n")[0]
