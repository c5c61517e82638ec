"""Reports, comparisons, studies and diffs made up for tests of what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from fairquant.recipe.schema import Recipe
from fairquant.recipe.search import Objective
from fairquant.report.comparison import Comparison, Difference, Row, Spread
from fairquant.report.diff import Diff, Estimate, Flips, Group, Quantity, RecipeKey, Side
from fairquant.report.study import Effect, Summary, Trial

NAN = float("nan")


def interval(value: float | None, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def metric(
    value: float, by_group: dict[str, float | None], low: float | None = None, high: float | None = None
) -> dict:
    low, high = value - 0.1 if low is None else low, value + 0.1 if high is None else high
    return {**interval(value, low, high), "by_group": by_group, "skipped": 0}


def limit(name: str, answer: str, **changes: object) -> dict:
    """One limit as report.json has it: a loss of 0.2, within 0.1 to 0.3, of at most 0.05."""
    return {
        "name": name, "kind": "loss", "limit": 0.05, "value": 0.2, "low": 0.1, "high": 0.3, "answer": answer, "images": 40,
        "more_images": None, "left_out": 0, **changes,
    }  # fmt: skip


def lost_cell(label: str, scope: str = "all images", rate: str = "sensitivity", **changes: object) -> dict:
    """A significant loss from 70 to 44 of 100 as report.json has it."""
    return {
        "rate": rate, "label": label, "scope": scope, "images": 57, "before": 0.7, "after": 0.44,
        "change": interval(-0.26, -0.39, -0.15), **changes,
    }  # fmt: skip


def run_report(change: tuple[float, float, float] = (-0.05, -0.08, -0.02), dark_high: float = -0.01) -> dict:
    """report.json of a run that lost accuracy, in group `dark` significantly where dark_high is below 0."""
    after, before = {"dark": 0.6, "light": 0.8}, {"dark": 0.7, "light": 0.85}
    return {
        "method": "fq-baq", "seed": 3, "recipe": "tiny",
        "dataset": {
            "name": "synthetic-lesions", "fingerprint": "f", "classes": ["mole", "wart"], "attributes": ["skin"],
            "counts": {
                "train": 60, "validation": 20, "test": 20,
                "groups": {"dark": {"train": 20, "validation": 8, "test": 7}, "light": {"train": 40, "validation": 12, "test": 13}},
                "labels": {"mole": {"train": 30, "validation": 10, "test": 9}, "wart": {"train": 30, "validation": 10, "test": 11}},
            },
        },
        "budget": {"average_bits": 3.0}, "artifact": {"path": "model.safetensors", "bytes": 50_000, "sha256": "abc"},
        "bits": {
            "average": 2.9876, "average_all": 3.956, "in_float": {"embedding": 1}, "histogram": {"2": 10, "4": 20},
            "weight_bytes": 40_000, "moved": 0.25,
        },
        "metrics": {"accuracy": metric(0.75, after), "worst-group-accuracy": metric(0.6, after, 0.5, 0.7)},
        "baseline": {"metrics": {"accuracy": metric(0.8, before), "worst-group-accuracy": metric(0.7, before)}},
        "change": {
            "accuracy": {**interval(*change), "by_group": {"dark": interval(-0.1, -0.2, dark_high), "light": interval(-0.05, -0.1, 0.02)}},
            "flips": {**interval(0.1, 0.05, 0.15), "by_group": {"dark": interval(0.2, 0.1, 0.3), "light": interval(0.05, 0.0, 0.1)}},
            "harmful_flips": {**interval(0.08, 0.0, 0.1), "by_group": {"dark": interval(0.15, 0.1, 0.2), "light": interval(None, None, None)}},
        },
        "accept": {"answer": "FAIL", "limits": [
            limit("sensitivity of wart in 'dark'", "FAIL"),
            limit("accuracy", "CANNOT TELL", value=0.01, low=-0.03, high=0.07, more_images=900),
            limit("accuracy in 'light'", "PASS", value=-0.01, low=-0.05, high=0.03),
        ]},
        "cells": {"lost": [lost_cell("wart", "dark")], "judged": 5, "undecided": 7}, "operating_point": None,
        "optimality": {"lower_bound": 1.0, "gap": 0.0004}, "timings": {"train": 12.3}, "versions": {"fairquant": "0.1.0"},
    }  # fmt: skip


def row(
    name: str, accuracy: float = 0.8, bits: float = 3.0, *, against: Difference | None = None, **changes: object
) -> Row:
    """A method's row with accuracy and accuracy-gap, two seeds."""
    method, _, budget = name.partition(" @ ")
    values = {
        "name": name, "method": method, "budget": float(budget) if budget else None, "seeds": (0, 1),
        "bits": Spread(bits, 0.0, (bits, bits)), "megabytes": Spread(1.25, 0.0, (1.25, 1.25)),
        "metrics": {
            "accuracy": Spread(accuracy, 0.01, (accuracy - 0.01, accuracy + 0.01)),
            "accuracy-gap": Spread(1 - accuracy, NAN, (1 - accuracy,)),
        },
        "worst": (0.5, 0.7), "change": {"dark": Spread(-0.02, 0.01, (-0.03, -0.01))}, "layers": {"conv1": 4.0, "fc": 2.0},
        "reference": None, "against": {} if against is None else {"accuracy": against}, "answers": ("PASS", "CANNOT TELL"),
        "problems": (),
    }  # fmt: skip
    return Row(**{**values, **changes})


def failed_row(name: str, problem: str) -> Row:
    """A method none of whose runs finished."""
    return row(name, seeds=(), metrics={}, change={}, layers={}, answers=(), problems=(problem,))


def comparison_of(recipe: Recipe, *rows: Row, references: tuple[str, ...] = ("fp32",)) -> Comparison:
    return Comparison(
        recipe=recipe, references=references, rows=rows, columns=("accuracy", "accuracy-gap"), lower=frozenset({"accuracy-gap"}),
        permutation_baselines={"accuracy-gap": 0.03}, outcomes=(), folder=Path("compare"),
    )  # fmt: skip


def trial(number: int, accuracy: float, bits: float, state: str = "complete", **more: object) -> Trial:
    validation = {"accuracy": accuracy, "accuracy/low": accuracy - 0.05, "accuracy/high": accuracy + 0.05, "bits": bits}
    values = {
        "parameters": {"budget.average_bits": bits},
        "folder": str(number),
        "overrides": (f"budget.average_bits={bits}",),
    }
    return Trial(number=number, state=state, validation=validation, **{**values, **more})


def summary_of(
    *trials: Trial, front: tuple[int, ...], effects: tuple[Effect, ...] = (), objectives: int = 2
) -> Summary:
    return Summary(
        name="study-abc", recipe="tiny.yaml", trials=trials, front=front, effects=effects,
        objectives=(Objective("accuracy", "maximize"), Objective("bits", "minimize"))[:objectives],
    )  # fmt: skip


def judged_report(*limits: dict, answer: str = "PASS") -> dict:
    """The same with an answer to these limits, and no class that lost."""
    accept = {"answer": answer, "limits": list(limits)}
    return {
        **run_report(),
        "accept": accept,
        "cells": {"lost": [], "judged": 3, "undecided": 0},
        "operating_point": None,
    }


def write_report(folder: Path, **changes: object) -> Path:
    """report.json of `run_report` with these keys in place of its own, in a new folder; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "report.json"
    file.write_text(json.dumps({**run_report(), **changes}))
    return file


def estimate(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, value - 0.1 if low is None else low, value + 0.1 if high is None else high)


def diff_of(**changes: object) -> Diff:
    """A paired diff of 40 images with two metrics, one group and one class."""
    side = {
        "path": "runs/a", "recipe": "tiny", "method": "fq-baq", "seed": 0, "bits": 2.5, "bytes": 1_500_000, "answer": "PASS",
        "images": 40, "predictions": "predictions.npz",
    }  # fmt: skip
    unknown = {"method": None, "seed": None, "bits": None, "bytes": 20_000, "answer": None, "path": "runs/<b>"}
    undefined = Difference(NAN, NAN, NAN)
    values = {
        "a": Side(**side), "b": Side(**{**side, **unknown}), "demo": False, "recipe": (RecipeKey("train.epochs", "2", "3"),),
        "pairing": "same", "images": 40, "notes": (), "flips": Flips(4, 1, 2),
        "metrics": (
            Quantity(label="accuracy", a=estimate(0.8), b=estimate(0.7), difference=Difference(-0.1, -0.15, -0.05)),
            Quantity(label="accuracy-gap", a=estimate(0.2), b=estimate(NAN), difference=undefined, lower_is_better=True),
        ),
        "groups": (
            Group(name="dark", images=(12, 12), a=estimate(0.5), b=estimate(0.6), change=Difference(0.1, -0.02, 0.2), flips=Flips(3, 1, 2)),
        ),
        "classes": (Quantity(label="mole", a=estimate(0.5), b=estimate(0.5), difference=Difference(0.0, 0.0, 0.0)),),
    }  # fmt: skip
    return Diff(**{**values, **changes})


def unpaired() -> Diff:
    """The same where the test images differ and B lacks the group."""
    made = diff_of()
    apart = [replace(each, difference=None) for each in made.metrics]
    group = replace(made.groups[0], images=(12, 0), b=None, change=None, flips=None)
    return replace(
        made, pairing="none", images=0, flips=None, notes=("the test images differ",), metrics=tuple(apart), groups=(group,),
        classes=(replace(made.classes[0], difference=None),),
    )  # fmt: skip
