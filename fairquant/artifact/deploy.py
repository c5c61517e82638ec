"""What the verbs export, audit and bench do with a file: its data out of its own recipe, its audit, its speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairquant.artifact.ranges import Calibration
from fairquant.artifact.runtime import Preprocessing, Runtime, in_batches
from fairquant.audit.evaluate import Change, change_against, evaluate
from fairquant.data.batching import draw_calibration, stack_images
from fairquant.errors import UserError
from fairquant.recipe import Recipe, recipe_from
from fairquant.registry import Plugins
from fairquant.roles import MetricValue, Predictions, Split, Splits

#: Images at a time: to predict, and to calibrate, where every activation is held at once.
BATCH, FEW = 32, 8


def recipe_of(metadata: dict[str, Any], path: Path, overrides: Sequence[str], plugins: Plugins) -> Recipe:
    """The recipe that the file was made by, with overrides such as dataset.root=FOLDER."""
    given = dict(metadata.get("recipe") or {})
    demo = bool(given.pop("demo", False))
    if not given or given.get("dataset", {}).get("name") == "your-data":
        raise UserError(
            f"{path}: made from data in Python's memory, which the file does not hold. Give images instead, with --images, "
            "or audit in Python: fairquant.audit.evaluate"
        )
    given.pop("search", None)
    recipe = recipe_from(given, overrides, registry=plugins.registry, source=f"the recipe in {path}", name=path.stem)
    if missing := recipe.dataset.value.check():
        raise UserError([*missing, "The file was made with these data: give their place, such as dataset.root=FOLDER"])
    return recipe.with_(demo=demo)


def calibration_images(recipe: Recipe, splits: Splits, preprocessing: Preprocessing) -> Calibration:
    """The calibration images: the dataset's own, or a draw of train with the groups alike."""
    groups = len(splits.group_names)
    part = splits.calibration or draw_calibration(splits.train, recipe.calibration.images, groups, recipe.seed)
    rows = in_batches(len(part), BATCH)
    return Calibration(
        list(batches_of(part, preprocessing)),
        [part.groups[each.start : each.stop] for each in rows],
        splits.group_names,
    )


def batches_of(part: Split, preprocessing: Preprocessing, size: int = BATCH) -> Any:
    """Normalised batches of a split, in order."""
    for rows in in_batches(len(part), size):
        images = stack_images(part, np.arange(rows.start, rows.stop))
        if images.dtype.is_floating_point:
            yield images.numpy().astype(np.float32)
        else:
            yield preprocessing.normalise(images.permute(0, 2, 3, 1).numpy())


def predictions_of(
    runtime: Runtime, part: Split, splits: Splits, preprocessing: Preprocessing, advance: Callable[[int], None]
) -> Predictions:
    """The file's answers to a split."""
    logits = []
    for images in batches_of(part, preprocessing):
        logits.append(runtime.logits(images))
        advance(len(images))
    return Predictions(
        np.concatenate(logits), part.labels, part.groups, splits.group_names, splits.class_names, part.ids
    )


@dataclass(frozen=True)
class ShippedAudit:
    """name -> metrics of full precision, trained artifact and exported file, as far as they are at hand; change: what the
    export did against the artifact; harmed: groups that lost accuracy by it, with an interval that excludes 0."""

    columns: dict[str, dict[str, MetricValue]]
    change: dict[str, Change]
    against: str
    harmed: tuple[str, ...]


def audit_file(found: Predictions, name: str, others: dict[str, Predictions], recipe: Recipe) -> ShippedAudit:
    """The same metrics and intervals as the run's. others: full precision and the trained artifact, on the same images."""
    for other, predictions in others.items():
        if predictions.ids != found.ids:
            raise UserError(f"the stored predictions of {other} are of other images: was the split seed changed?")
    every = {**others, name: found}
    columns = {label: evaluate(each, recipe.metrics, seed=recipe.seed) for label, each in every.items()}
    if not others:
        return ShippedAudit(columns, {}, "", ())
    against = list(others)[-1]
    change = change_against(found, others[against], seed=recipe.seed)
    harmed = tuple(group for group, value in change["accuracy"].by_group.items() if value["high"] < 0)
    return ShippedAudit(columns, change, against, harmed)


@dataclass(frozen=True)
class Speed:
    """milliseconds: batch -> (median, 95th percentile) of one call; images a second at the larger batch; bytes on disk;
    peak: most memory above what the process had, in bytes, over loading and running."""

    name: str
    milliseconds: dict[int, tuple[float, float]]
    throughput: float
    bytes: int
    peak: int


def measure(
    runs: dict[str, Callable[[NDArray[np.float32]], object]], size: int, batches: Sequence[int], seconds: float
) -> dict[str, dict[int, list[float]]]:
    """Milliseconds of each, taken in turn so that noise hits all alike: name -> batch -> times."""
    draw = np.random.default_rng(0)
    found: dict[str, dict[int, list[float]]] = {name: {} for name in runs}
    for batch in batches:
        images = draw.normal(size=(batch, 3, size, size)).astype(np.float32)
        for run in runs.values():
            run(images)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(next(iter(found.values())).get(batch, [])) < 5:
            for name, run in runs.items():
                start = time.perf_counter()
                run(images)
                found[name].setdefault(batch, []).append(1e3 * (time.perf_counter() - start))
    return found


def speed(name: str, times: dict[int, list[float]], size: int, peak: int) -> Speed:
    shown = {batch: (statistics.median(values), float(np.quantile(values, 0.95))) for batch, values in times.items()}
    largest = max(times)
    return Speed(name, shown, 1e3 * largest / shown[largest][0], size, peak)
