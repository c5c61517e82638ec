"""The Python interface behind `fairquant.run` and `fairquant.quantize`."""

from __future__ import annotations

import hashlib
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairquant.artifact import load
from fairquant.blame import plugin_failure
from fairquant.data.images import default_cache
from fairquant.data.transforms import Normalization
from fairquant.errors import UserError
from fairquant.files import folder_lock, write_atomically
from fairquant.models import build_model
from fairquant.pipeline import Model, default_runs, run_pipeline
from fairquant.recipe import Recipe, read_recipe, recipe_from
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import ModelSettings
from fairquant.registry import Plugins, discover
from fairquant.roles import DataContext, Split, Splits
from fairquant.runs import Display, Quiet, Run, finished_report, log_file, other_versions, run_folder
from fairquant.training.distributed import is_leader, join, leader_first, wait


@dataclass(frozen=True)
class RunResult:
    """A finished run: its report (report.json's content), its folder, and whether it had been finished before."""

    report: dict[str, Any]
    folder: Path
    was_finished: bool = False

    def load(self, model: nn.Module | None = None) -> nn.Module:
        """The quantized model, ready to use."""
        return load(self.folder / "model.safetensors", model)


def run(
    recipe: str | os.PathLike[str] | Recipe, *overrides: str, demo: bool = False,
    runs: str | os.PathLike[str] | None = None, display: Display | None = None, plugins: Plugins | None = None,
) -> RunResult:  # fmt: skip
    """Run a recipe: fairquant.run("recipes/quickstart.yaml", "seed=7"). Resumes, or shows what is finished.

    Raises UserError, naming every problem, where the recipe or the data are not in order.
    """
    plugins = discover() if plugins is None else plugins
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, overrides, registry=plugins.registry, demo=demo)
    missing = recipe.dataset.value.check()
    if missing:
        raise UserError(missing)
    return execute(recipe, plugins, Path(runs) if runs is not None else default_runs(), display or Quiet())


def execute(
    recipe: Recipe, plugins: Plugins, runs: Path, display: Display, splits: Splits | None = None,
    model: Model | None = None, hold_test: bool = False,
    watch: Callable[[str, Mapping[str, float]], None] = lambda stage, values: None,
) -> RunResult:  # fmt: skip
    """Open the recipe's folder and go all the way; splits and model are loaded where they are not given.

    hold_test: stop once validation is predicted; the report is then that of held.json (bits, bytes). watch(stage,
    values) is called after each epoch and may stop the run by raising.
    """
    join()
    folder = run_folder(recipe, runs)
    done = finished_report(folder) or (finished_report(folder, "held.json") if hold_test else None)
    wait()
    if done is not None:
        if is_leader() and (others := other_versions(done, plugins)):
            display.say(f"{folder}: finished with {others}. Remove the folder to run it anew")
        return RunResult(done, folder, was_finished=True)
    if not is_leader():
        plugins, display = plugins.silent(), Quiet()
    with _owned(folder) if is_leader() else nullcontext():
        wait()
        opened = Run(recipe, folder, runs, plugins, display, hold_test=hold_test, watch=watch)
        if is_leader():
            write_atomically(folder / "recipe.yaml", recipe_yaml(recipe).encode())
        opened.notify("fairquant_run_started")
        try:
            for note in (*plugins.problems, *recipe.notes):
                opened.say(note)
            if splits is None:
                with opened.stage("data"), leader_first():
                    splits = load_data(recipe, display)
            for note in splits.notes:
                opened.say(note)
            if model is None:
                model = timm_model(recipe, opened, len(splits.class_names))
            report = run_pipeline(recipe, opened, splits, model)
        except BaseException as error:
            shown = _told(error, opened)
            if shown is error:
                raise
            raise shown from error
        wait()
        if not is_leader():
            report = finished_report(folder) or {}
        if not hold_test:
            opened.notify("fairquant_run_finished", report=report)
        return RunResult(report, folder)


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """The folder's lock and its log."""
    with folder_lock(folder, wait=False), log_file(folder):
        yield


def _told(error: BaseException, run: Run) -> BaseException:
    """What stopped the run goes to its log and its listeners; returned is what the user is to see."""
    run.log(f"stopped: {type(error).__name__}: {error}")
    run.log("".join(traceback.format_exception(error)))
    run.notify("fairquant_run_failed", error=error)
    if isinstance(error, OSError) and not isinstance(error, UserError):
        return UserError(f"{error.filename or run.folder}: {error.strerror or error}. The run can be resumed")
    return plugin_failure(error, run.recipe, run.plugins.registry) or error


def load_data(recipe: Recipe, display: Display) -> Splits:
    context = DataContext(recipe.seed, recipe.model.image_size, default_cache(), display.bar)
    splits: Splits = recipe.dataset.value.load(context)
    return splits


def timm_model(recipe: Recipe, run: Run, classes: int) -> Model:
    """Build the recipe's model, its fresh weights drawn from the seed."""
    settings = recipe.model
    torch.manual_seed(recipe.seed)
    network, normalize, notes = build_model(settings, classes, recipe.train.channels_last)
    for note in notes:
        run.say(note)
    architecture = {
        "source": "timm", "name": settings.name, "image_size": settings.image_size, "options": settings.options,
    }  # fmt: skip
    return Model(network, normalize, architecture)


def recipe_yaml(recipe: Recipe) -> str:
    import yaml

    header = "# Resolved by fairquant: every default filled in. Running this file gives the same result.\n"
    return header + yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class YourData:
    """The dataset section of a run started from Python: digests in place of a name in the registry."""

    fingerprint: str
    model: str

    def check(self) -> list[str]:
        return []


def quantize(
    model: nn.Module, train: Any, validation: Any, test: Any = None, *, average_bits: float = 4.0,
    method: str = "fq-baq", group_names: Sequence[str] | None = None, class_names: Sequence[str] | None = None,
    overrides: Sequence[str] = (), seed: int = 0, name: str = "quantize",
    runs: str | os.PathLike[str] | None = None, display: Display | None = None,
) -> RunResult:  # fmt: skip
    """Quantize any trained nn.Module on any data sets of (image, label, group).

    train, validation, test: anything with len() and [i] -> (float tensor [3, H, W] ready for the model, int, int).
    Without `test` the audit is on validation, and says so. The model is its own full-precision baseline and is left
    as it was. overrides: recipe keys, such as "train.epochs=5". Returns the report, the folder, and .load(model).
    """
    plugins = discover()
    parts = {"train": train, "validation": validation, "test": validation if test is None else test}
    data = {key: _given_split(key, part) for key, part in parts.items()}
    labels = max(int(split.labels.max(initial=0)) for split in data.values()) + 1
    groups = max(int(split.groups.max(initial=0)) for split in data.values()) + 1
    classes = tuple(class_names) if class_names else tuple(f"class {number}" for number in range(labels))
    names = tuple(group_names) if group_names else tuple(f"group {number}" for number in range(groups))
    if len(classes) < labels or len(names) < groups:
        raise UserError(f"class_names, group_names: the data have {labels} classes and {groups} groups")
    notes = () if test is not None else ("no test set was given: the audit is on validation and is optimistic",)
    fingerprint = _digest_data(data)
    network = _copy(model)
    recipe = recipe_from(
        {"seed": seed, "method": method, "dataset": {"name": "synthetic-lesions"}, "budget": {"average_bits": average_bits},
         "train": {"epochs": 5, "learning_rate": 1e-4, "augment": "none"}, "baseline": {"epochs": 0}},
        [*overrides, f"method={method}"], registry=plugins.registry, source="fairquant.quantize", name=name,
    )  # fmt: skip
    given = YourData(fingerprint, _digest_model(network))
    shown = f"{type(model).__module__}.{type(model).__qualname__}"
    recipe = recipe.with_(dataset=Component("your-data", given), model=ModelSettings(name=shown))
    splits = Splits(
        data["train"], data["validation"], data["test"], classes, names, ("group",), fingerprint, notes=notes
    )
    own = Model(network, Normalization((0.0,) * 3, (1.0,) * 3), {"source": "module", "class": shown}, trained=True)
    return execute(recipe, plugins, Path(runs) if runs is not None else default_runs(), display or Quiet(), splits, own)


@dataclass(frozen=True)
class _GivenImages:
    items: Any

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.items[index][0]
        return image


def _given_split(name: str, items: Any) -> Split:
    """Labels and groups of a data set of (image, label, group)."""
    try:
        triples = [items[index] for index in range(len(items))]
        labels = np.array([int(label) for _, label, _ in triples], np.int64)
        groups = np.array([int(group) for _, _, group in triples], np.int64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name}: every item must be (image, label, group) with whole numbers for label and group: {error}"
        ) from error
    if not len(labels) or not isinstance(triples[0][0], Tensor):
        raise UserError(f"{name}: needs at least one item, and tensors for images")
    return Split(_GivenImages(items), labels, groups, tuple(f"{name}-{row}" for row in range(len(labels))))


def _digest_data(data: dict[str, Split]) -> str:
    total = hashlib.sha256()
    for split in data.values():
        for index in range(len(split)):
            total.update(np.ascontiguousarray(split.images[index].numpy()).tobytes())
        total.update(split.labels.tobytes() + split.groups.tobytes())
    return total.hexdigest()


def _digest_model(model: nn.Module) -> str:
    total = hashlib.sha256()
    for key, value in model.state_dict().items():
        total.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _copy(model: nn.Module) -> nn.Module:
    import copy

    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        warnings.warn("the model is quantized from float32; its parameters are converted", stacklevel=3)
    return copy.deepcopy(model).float()
