"""What `fairquant diff` is given: a run's folder or an artifact, opened, and its predictions, stored or made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fairquant.artifact.header import read_header
from fairquant.errors import UserError
from fairquant.export.audit import audit_splits, check_intensity, predictions_of
from fairquant.export.runtime import Metadata, Preprocessing, Runtime, open_runtime
from fairquant.recipe import Recipe
from fairquant.recipe.events import Report
from fairquant.recipe.lines import parse_yaml
from fairquant.registry import Registry
from fairquant.roles import Predictions, Splits
from fairquant.runs.data import load_data
from fairquant.runs.folder import Display
from fairquant.runs.predictions import checked_predictions
from fairquant.runs.reports import read_report
from fairquant.study.matching import Predicted

ARTIFACT = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One side, opened. file: what predicts, and its size is shown; content: its recipe as plain data; stored: predictions
    of its own test images, None where the file has to predict."""

    path: Path
    file: Path
    content: Mapping[str, Any]  # of any type until a recipe is made of it
    metadata: Metadata
    report: Report | None
    stored: Predictions | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes, in its own order."""
        return tuple(self.metadata["classes"]) if self.stored is None else self.stored.class_names

    @property
    def bits(self) -> float | None:
        """Average bits of a weight; None where the file does not say."""
        if self.report is not None:
            return self.report["bits"]["average"]
        plan = self.metadata.get("plan")
        bits = plan.get("average_bits") if isinstance(plan, dict) else None
        return bits if isinstance(bits, int | float) else None

    @property
    def bytes(self) -> int:
        """Size of the artifact."""
        return self.file.stat().st_size if self.report is None else self.report["artifact"]["bytes"]


def open_source(path: Path, predict: bool) -> Source:
    """A run's folder, or an artifact. predict: its own test images are of no use. Raises UserError that names the file."""
    if path.is_dir():
        return _open_folder(path, predict)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file or folder. Name a run's folder (`fairquant runs` lists them) or an artifact"
        )
    if path.suffix != ".safetensors":
        metadata: Metadata = open_runtime(path).metadata
        return _artifact(path, metadata, None, None)
    header = read_header(path)
    report = _report_of(path, header.content)
    npz = path.with_name("predictions.npz")
    stored = checked_predictions(npz) if report is not None and npz.is_file() and not predict else None
    whole = None if report is None else _whole_recipe(path, bool((header.metadata.get("recipe") or {}).get("demo")))
    return _artifact(path, header.metadata if whole is None else {**header.metadata, "recipe": whole}, report, stored)


def _artifact(path: Path, metadata: Metadata, report: Report | None, stored: Predictions | None) -> Source:
    content = metadata.get("recipe")
    return Source(
        path=path, file=path, content=content if isinstance(content, dict) else {}, metadata=metadata, report=report,
        stored=stored,
    )  # fmt: skip


def _whole_recipe(path: Path, demo: bool) -> dict[str, Any] | None:
    """The recipe of the run's folder, with what an artifact does not ship; None where it cannot be read."""
    file = path.with_name("recipe.yaml")
    try:
        content, _, problems = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError, UserError):
        return None
    return None if problems else {**content, "demo": demo}


def _report_of(path: Path, content: bytes) -> Report | None:
    """The report beside an artifact, where it is about this very file."""
    try:
        report = read_report(path.with_name("report.json"))
    except UserError:
        return None
    return report if report["artifact"].get("sha256") == hashlib.sha256(content).hexdigest() else None


def _open_folder(folder: Path, predict: bool) -> Source:
    if not (folder / "report.json").exists():
        raise UserError(f"{folder}: {_no_run(folder)}")
    problems: list[str] = []
    report, stored = None, None
    content: dict[str, Any] = {}
    metadata: Metadata = {}
    try:
        report = read_report(folder / "report.json")
    except UserError as error:
        problems += error.problems
    try:
        text = (folder / "recipe.yaml").read_text(encoding="utf-8")
        content, _, found = parse_yaml(text, str(folder / "recipe.yaml"))
        problems += found
    except UserError as error:
        problems += error.problems
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{folder / 'recipe.yaml'}: cannot be read: {error}. Name {folder / ARTIFACT} instead")
    try:
        if predict:
            metadata = read_header(folder / ARTIFACT).metadata
        else:
            stored = checked_predictions(folder / "predictions.npz")
    except UserError as error:
        problems += error.problems
    if problems or report is None:
        raise UserError(problems)
    content["demo"] = "(DEMO" in report["recipe"]
    return Source(path=folder, file=folder / ARTIFACT, content=content, metadata=metadata, report=report, stored=stored)


def _no_run(folder: Path) -> str:
    """Why a folder is not a finished run's, and what to do."""
    for name, what in (("compare.json", "comparison"), ("study.json", "study")):
        if (folder / name).exists():
            return f"a {what}'s folder. Name two of its runs: {name} lists their folders"
    if (folder / "recipe.yaml").exists():
        return "the run is not finished (no report.json). The command that started it resumes it"
    return "no run's folder (no report.json). `fairquant runs` lists finished runs"


@dataclass(frozen=True, kw_only=True)
class Data:
    """The images that artifacts predict, those of a recipe; loaded once for each image size. registry: for messages."""

    recipe: Recipe
    registry: Registry
    every: bool
    display: Display
    loaded: dict[int, Splits] = field(default_factory=dict)

    def splits(self, size: int) -> Splits:
        """The splits at an image size [pixels]."""
        if size not in self.loaded:
            model = replace(self.recipe.model, image_size=size)
            self.loaded[size] = load_data(self.recipe.with_changes(model=model), self.display, self.registry)
        return self.loaded[size]


def predicted(source: Source, data: Data | None) -> tuple[Predicted, str]:
    """A side's predictions, and where they come from. data: None where they are stored."""
    if source.stored is not None and source.report is not None:
        about = source.report["dataset"]
        return Predicted(source.stored, str(about.get("name")), str(about.get("fingerprint") or "")), "predictions.npz"
    assert data is not None
    runtime: Runtime = open_runtime(source.file)
    preprocessing = Preprocessing.of(runtime.metadata, source.file)
    loaded = data.splits(preprocessing.image_size)
    check_intensity(data.recipe, loaded, preprocessing, source.file)
    splits = audit_splits(loaded, runtime.metadata["classes"], data.every, source.file)
    advance = data.display.bar(f"predicting, {source.file.name}", len(splits.test))
    made = predictions_of(runtime, splits, preprocessing, advance)
    return Predicted(made, data.recipe.dataset.name, loaded.fingerprint), f"made now, in {runtime.name}"
