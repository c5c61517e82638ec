"""What the verbs export, audit and bench do with a file: its data out of its own recipe, its audit, its speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairquant.artifact.ranges import Calibration
from fairquant.artifact.runtime import Preprocessing, Runtime, in_batches, open_runtime
from fairquant.audit.evaluate import Change, change_against, evaluate
from fairquant.data.batching import draw_calibration, stack_images
from fairquant.errors import UserError
from fairquant.recipe import Recipe, recipe_from
from fairquant.recipe.lines import parse_yaml
from fairquant.registry import Plugins
from fairquant.results import read_predictions
from fairquant.roles import MetricValue, Predictions, Split, Splits
from fairquant.roles.dataset import joined

#: Images at a time: to predict, and to calibrate, where every activation is held at once.
BATCH, FEW = 32, 8


def recipe_of(
    metadata: dict[str, Any], path: Path, overrides: Sequence[str], plugins: Plugins, dataset: str | None = None
) -> Recipe:
    """The recipe that the file was made by, with overrides such as dataset.root=FOLDER. dataset: other data than those it
    was made with, by name, or as a recipe says it."""
    given = dict(metadata.get("recipe") or {})
    demo = bool(given.pop("demo", False)) and dataset is None
    if dataset is not None:
        given["dataset"] = _dataset_section(dataset)
    if not given or given.get("dataset", {}).get("name") == "your-data":
        raise UserError(
            f"{path}: made from data in Python's memory, which the file does not hold. Name others with --dataset, "
            "or images with --images where they are only to calibrate with"
        )
    given.pop("search", None)
    recipe = recipe_from(given, overrides, registry=plugins.registry, source=f"the recipe in {path}", name=path.stem)
    if missing := recipe.dataset.value.check():
        raise UserError([*missing, "The file was made with these data: give their place, such as dataset.root=FOLDER"])
    return recipe.with_(demo=demo)


def _dataset_section(dataset: str) -> dict[str, Any]:
    """A name, with its options on the command line; or a YAML file: a recipe's dataset section, or nothing but one."""
    file = Path(dataset)
    if file.suffix not in (".yaml", ".yml"):
        return {"name": dataset}
    try:
        content, _, problems = parse_yaml(file.read_text(encoding="utf-8"), dataset)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--dataset {dataset}: cannot be read: {error}") from error
    found = content.get("dataset", content)
    if problems or not isinstance(found, dict) or "name" not in found:
        raise UserError(
            problems or f"--dataset {dataset}: no dataset section with a name, such as {{name: image-table}}"
        )
    return found


def audited(splits: Splits, classes: Sequence[str], every: bool, path: Path) -> Splits:
    """The splits with the images to audit as test, their labels numbered as the file's classes are. every: all images,
    for data that the model was not trained on."""
    part = joined((splits.train, splits.validation, splits.test)) if every else splits.test
    if tuple(classes) == splits.class_names:
        return replace(splits, test=part)
    if unknown := [name for name in splits.class_names if name not in classes]:
        raise UserError(
            f"{path}: it knows no class {', '.join(map(repr, unknown))} of these data. Its classes: {', '.join(classes)}"
        )
    number = np.array([list(classes).index(name) for name in splits.class_names], np.int64)
    return replace(splits, test=replace(part, labels=number[part.labels]), class_names=tuple(classes))


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


def to_compare_with(
    path: Path,
    found: Predictions,
    splits: Splits,
    preprocessing: Preprocessing,
    bar: Callable[[str, int], Callable[[int], None]],
) -> dict[str, Predictions]:
    """Full precision and the trained artifact on the same images: as the run stored them beside the file or, of other
    images, the artifact beside it asked anew."""
    stored, artifact = path.with_name("predictions.npz"), path.with_name("model.safetensors")
    if stored.is_file():
        before, after = read_predictions(stored)
        if after.ids == found.ids and after.class_names == found.class_names:
            both = {"full precision": before, "trained artifact": after}
            return both if path.suffix == ".onnx" else {"full precision": before}
    if path.suffix != ".onnx" or not artifact.is_file():
        return {}
    advance = bar("predicting, trained artifact", len(splits.test))
    return {"trained artifact": predictions_of(open_runtime(artifact), splits.test, splits, preprocessing, advance)}


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
    every = {**others, name: found}
    columns = {label: evaluate(each, recipe.metrics, seed=recipe.seed) for label, each in every.items()}
    if not others:
        return ShippedAudit(columns, {}, "", ())
    against = list(others)[-1]
    change = change_against(found, others[against], seed=recipe.seed)
    harmed = tuple(group for group, value in change["accuracy"].by_group.items() if value["high"] < 0)
    return ShippedAudit(columns, change, against, harmed)
