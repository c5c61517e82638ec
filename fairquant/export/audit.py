"""Audit of the file that ships: its data, from its own recipe, its predictions, and the predictions to compare them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairquant.audit.acceptance import acceptance
from fairquant.audit.cell_reports import cells_report
from fairquant.audit.cells import cells_of
from fairquant.audit.change import Change, change_against
from fairquant.audit.claims import ABSOLUTE, class_problems
from fairquant.audit.evaluate import evaluate
from fairquant.data.batching import draw_calibration, stack_images
from fairquant.data.in_memory import IN_MEMORY
from fairquant.errors import UserError
from fairquant.export.ranges import Calibration
from fairquant.export.runtime import Metadata, Preprocessing, Runtime, in_batches, open_runtime
from fairquant.recipe import Recipe, recipe_from
from fairquant.recipe.events import AcceptReport, CellsReport
from fairquant.recipe.lines import parse_yaml
from fairquant.registry import Plugins
from fairquant.roles import MetricValue, OperatingPoint, Predictions, Split, Splits
from fairquant.roles.dataset import concat
from fairquant.runs.data import missing_data
from fairquant.runs.folder import finished_report
from fairquant.runs.identity import IMAGES, TABLE, identity_of, read_identity, what_changed
from fairquant.runs.predictions import read_predictions

#: Images at a time: to predict, and to calibrate, where every activation is held at once.
PREDICTION_BATCH, CALIBRATION_BATCH = 32, 8
#: Names of the dataset section of a run that was started from Python; the second is an earlier version's.
FROM_PYTHON = (IN_MEMORY, "your-data")
Bar = Callable[[str, int], Callable[[int], None]]


def recipe_of(
    metadata: Metadata, path: Path, overrides: Sequence[str], plugins: Plugins, dataset: str | None = None
) -> Recipe:
    """The recipe that the file was made by, with overrides such as dataset.root=FOLDER.

    dataset: other data than those it was made with, by name, or as a YAML file. Raises UserError where the recipe or the
    data are missing or not valid.
    """
    given = dict((None if dataset else _beside(metadata, path, plugins)) or metadata.get("recipe") or {})
    demo = bool(given.pop("demo", False)) and dataset is None
    if dataset is not None:
        given["dataset"] = _read_alike(_dataset_section(dataset), metadata, overrides, plugins)
    if not given or given.get("dataset", {}).get("name") in FROM_PYTHON:
        raise UserError(
            f"{path}: made from data in Python's memory, which the file does not hold. Name other data with --dataset, "
            "or, for calibration only, a folder with --images"
        )
    given.pop("search", None)
    recipe = recipe_from(given, overrides, registry=plugins.registry, source=f"the recipe in {path}", name=path.stem)
    if missing := missing_data(recipe, plugins.registry):
        advice = [
            "A file does not hold where its data are: say it, such as dataset.root=FOLDER, or name a dataset section with --dataset"
        ]
        raise UserError([*missing, *(advice if dataset is None else [])])
    return replace(recipe, demo=demo)


def _dataset_section(dataset: str) -> dict[str, object]:
    """A name, with its options on the command line; or a YAML file: a recipe's dataset section, or nothing but one."""
    file = Path(dataset)
    if file.suffix not in (".yaml", ".yml"):
        return {"name": dataset}
    try:
        content, _, problems = parse_yaml(file.read_text(encoding="utf-8"), dataset)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--dataset {dataset}: cannot be read: {error}") from error
    section = content.get("dataset", content)
    if problems or not isinstance(section, dict) or "name" not in section:
        raise UserError(
            problems or f"--dataset {dataset}: no dataset section with a name, such as {{name: image-table}}"
        )
    return section


def _beside(metadata: Metadata, path: Path, plugins: Plugins) -> dict[str, Any] | None:
    """The whole recipe, paths included, out of the run's folder that the file lies in; None where it lies elsewhere."""
    file = path.with_name("recipe.yaml")
    try:
        content, _, problems = parse_yaml(file.read_text(encoding="utf-8"), str(file))
        digest = recipe_from(content, registry=plugins.registry, source=str(file)).digest()
    except (OSError, UnicodeDecodeError, UserError):
        return None
    if problems or digest != metadata.get("recipe_digest"):
        return None
    return {**content, "demo": bool((metadata.get("recipe") or {}).get("demo"))}


def _read_alike(
    section: dict[str, object], metadata: Metadata, overrides: Sequence[str], plugins: Plugins
) -> dict[str, object]:
    """The section with the intensity that the file's images are read with, where it names none of its own."""
    preprocessing, name = metadata.get("preprocessing"), section.get("name")
    intensity = preprocessing.get("intensity") if isinstance(preprocessing, dict) else None
    own = "intensity" in section or any(each.strip().startswith("dataset.intensity") for each in overrides)
    if intensity is None or own or not isinstance(name, str) or name not in plugins.registry.names("dataset"):
        return section
    options = getattr(plugins.registry.load("dataset", name), "__dataclass_fields__", {})
    return {**section, "intensity": intensity} if "intensity" in options else section


def check_intensity(recipe: Recipe, splits: Splits, preprocessing: Preprocessing, path: Path) -> None:
    """UserError where the data are read with another intensity than the file's images: its answers would be about other pictures."""
    if hasattr(recipe.dataset.value, "intensity") and splits.intensity != preprocessing.intensity:
        wanted = preprocessing.intensity if isinstance(preprocessing.intensity, str) else list(preprocessing.intensity)
        raise UserError(
            f"{path}: its images are read with intensity {wanted}, these data with {splits.intensity}. Set dataset.intensity={wanted}"
        )


def audit_splits(splits: Splits, classes: Sequence[str], every: bool, path: Path) -> Splits:
    """The splits with the images to audit as test, their labels numbered in the order of the file's classes.

    every: all images, for data that the model was not trained on. Raises UserError for a class that the file lacks.
    """
    images = concat((splits.train, splits.validation, splits.test)) if every else splits.test
    if tuple(classes) == splits.class_names:
        return replace(splits, test=images)
    if unknown := [name for name in splits.class_names if name not in classes]:
        raise UserError(
            f"{path}: it has no class {', '.join(map(repr, unknown))} of these data. Its classes: {', '.join(classes)}"
        )
    number = np.array([list(classes).index(name) for name in splits.class_names], np.int64)
    return replace(splits, test=replace(images, labels=number[images.labels]), class_names=tuple(classes))


def calibration_images(recipe: Recipe, splits: Splits, preprocessing: Preprocessing) -> Calibration:
    """The calibration images: the dataset's own, or a draw of train with each group equally."""
    groups = len(splits.group_names)
    images = splits.calibration or draw_calibration(splits.train, recipe.calibration.images, groups, recipe.seed)
    rows = in_batches(len(images), PREDICTION_BATCH)
    return Calibration(
        list(batches_of(images, preprocessing)),
        [images.groups[each.start : each.stop] for each in rows],
        splits.group_names,
    )


def batches_of(
    split: Split, preprocessing: Preprocessing, size: int = PREDICTION_BATCH
) -> Iterator[NDArray[np.float32]]:
    """Normalised batches [B, 3, H, W] of a split, in order."""
    for rows in in_batches(len(split), size):
        images = stack_images(split, np.arange(rows.start, rows.stop))
        if images.dtype.is_floating_point:
            yield images.numpy().astype(np.float32)
        else:
            yield preprocessing.normalise(images.permute(0, 2, 3, 1).numpy())


def predictions_of(
    runtime: Runtime, splits: Splits, preprocessing: Preprocessing, advance: Callable[[int], None]
) -> Predictions:
    """The file's predictions of the test split."""
    split, logits = splits.test, []
    for images in batches_of(split, preprocessing):
        logits.append(runtime.logits(images))
        advance(len(images))
    return Predictions(
        logits=np.concatenate(logits), labels=split.labels, groups=split.groups, group_names=splits.group_names,
        class_names=splits.class_names, ids=split.ids, operating=operating_point_of(runtime.metadata),
    )  # fmt: skip


def operating_point_of(metadata: Metadata) -> OperatingPoint | None:
    """The operating point that a file carries, if any. Raises UserError where it is damaged."""
    given = metadata.get("operating_point")
    if not given:
        return None
    try:
        classes = tuple(metadata["classes"].index(name) for name in given["classes"])
        return OperatingPoint(classes, float(given["threshold"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the file's operating point is damaged: {given!r}") from error


def reference_predictions(
    path: Path, own: Predictions, splits: Splits, preprocessing: Preprocessing, bar: Bar
) -> dict[str, Predictions]:
    """Predictions of full precision and of the trained artifact on the same images, as far as they are available.

    Taken from the run's folder that the file is in or, for other images, by running the artifact beside it.
    """
    stored, artifact = path.with_name("predictions.npz"), path.with_name("model.safetensors")
    if stored.is_file() and _same_data(path, splits):
        run = read_predictions(stored)
        if run.after.ids == own.ids and run.after.class_names == own.class_names:
            both = {"full precision": run.before, "trained artifact": run.after}
            return both if path.suffix == ".onnx" else {"full precision": run.before}
    if path.suffix != ".onnx" or not artifact.is_file():
        return {}
    advance = bar("predicting, trained artifact", len(splits.test))
    return {"trained artifact": predictions_of(open_runtime(artifact), splits, preprocessing, advance)}


def check_content(recipe: Recipe, splits: Splits, plugins: Plugins, path: Path) -> None:
    """UserError where the data of the run that the file lies in have changed: its test images may be images it was trained on now."""
    stored = read_identity(path.parent)
    now = identity_of(recipe, splits, plugins)
    data = {key: now[key] for key in (IMAGES, TABLE, "classes", "groups")}
    known = {key: stored[key] for key in data if key in stored}
    if known and known != data:
        raise UserError(
            f"{path}: its data have changed since it was made: {what_changed(known, data)}. Which of them it was trained on is "
            "not known: run the recipe again, or name the data with --dataset, and --all if it was trained on none of them"
        )


def _same_data(path: Path, splits: Splits) -> bool:
    """Whether the run that the file lies in was on these very images, read in the same way."""
    report: Mapping[str, object] = finished_report(path.parent) or {}
    dataset = report.get("dataset")
    return isinstance(dataset, dict) and dataset.get("fingerprint") == splits.fingerprint


@dataclass(frozen=True)
class ShippedAudit:
    """columns: name -> metrics of full precision, trained artifact and exported file, as far as they are available;
    change: what the export did to the artifact; harmed: groups whose accuracy it reduced, with an interval that excludes
    0. accept: the answer to the recipe's limits, against the first of the others; compared_with: its name, "" where there is none;
    cells: which classes lost what against it."""

    columns: dict[str, dict[str, MetricValue]]
    change: dict[str, Change]
    against: str
    harmed: tuple[str, ...]
    accept: AcceptReport
    compared_with: str
    cells: CellsReport | None = None


def audit_file(
    own: Predictions, name: str, others: dict[str, Predictions], recipe: Recipe, file_bytes: int
) -> ShippedAudit:
    """The same metrics, intervals and limits as the run's. others: full precision and the trained artifact, on the same images.
    Raises UserError for classes in limits that these data do not have.
    """
    if problems := class_problems(recipe.accept, own.class_names):
        raise UserError(problems)
    first = next(iter(others), "")
    if first:
        own = replace(own, reference=others[first])
        others = {
            label: each if label == first else replace(each, reference=others[first]) for label, each in others.items()
        }
    accept = shipped_answer(own, others.get(first), recipe, file_bytes)
    every = {**others, name: own}
    columns = {label: evaluate(each, recipe.metrics, seed=recipe.seed) for label, each in every.items()}
    if not others:
        return ShippedAudit(columns, {}, "", (), accept, "")
    against = list(others)[-1]
    change = change_against(own, others[against])
    harmed = tuple(group for group, value in change["accuracy"].by_group.items() if value["high"] < 0)
    cells = cells_report(cells_of(own, others[first]))
    return ShippedAudit(columns, change, against, harmed, accept, first, cells)


def shipped_answer(own: Predictions, before: Predictions | None, recipe: Recipe, file_bytes: int) -> AcceptReport:
    """The answer to the recipe's limits. Without another model to compare with, no loss can be excluded."""
    absolute = [limit for limit in recipe.accept if limit.kind in ABSOLUTE]
    if before is not None:
        return acceptance(own, before, recipe.accept, file_bytes, seed=recipe.seed)
    report = acceptance(own, own, absolute, file_bytes, seed=recipe.seed)
    if len(absolute) == len(recipe.accept):
        return report
    return {"answer": "FAIL" if report["answer"] == "FAIL" else "CANNOT TELL", "limits": report["limits"]}
