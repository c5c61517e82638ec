"""The data of a recipe: what is missing on this machine, and the splits, which a stranger's plugin may give."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fairquant.data.images import default_cache
from fairquant.errors import PluginFailed
from fairquant.recipe.schema import Recipe
from fairquant.registry import Registry
from fairquant.roles import DataContext, Split, Splits
from fairquant.runs.folder import Display
from fairquant.runs.plugin_errors import naming_plugins

#: What is wrong with a name that no artifact may hold.
UNPRINTABLE = (
    "has a line break or another character that controls a terminal: give it another name, in a table by a map"
)


def missing_data(recipe: Recipe, registry: Registry) -> list[str]:
    """What the recipe's dataset lacks on this machine, in words."""
    with naming_plugins(recipe, registry):
        missing: object = recipe.dataset.value.check()
    if not isinstance(missing, list) or not all(isinstance(each, str) for each in missing):
        raise PluginFailed(
            f"dataset {recipe.dataset.name!r}: check() returned {missing!r}, a list of sentences is wanted"
        )
    return missing


def load_data(recipe: Recipe, display: Display, registry: Registry) -> Splits:
    """The recipe's images in their splits. Raises UserError; PluginFailed where a dataset gives what is no Splits."""
    context = DataContext(recipe.seed, recipe.model.image_size, default_cache(), display.bar)
    with naming_plugins(recipe, registry):
        splits: object = recipe.dataset.value.load(context)
        problems = _problems(splits)
    if problems:
        raise PluginFailed([f"dataset {recipe.dataset.name!r}: {problem}" for problem in problems])
    assert isinstance(splits, Splits)
    return splits


def _problems(splits: object) -> list[str]:
    """What is wrong with the splits of a dataset, as far as it can be seen without reading every image."""
    if not isinstance(splits, Splits):
        return [f"load() returned {type(splits).__name__}, Splits are wanted"]
    problems = []
    for what in ("class_names", "group_names", "attributes", "notes"):
        names: object = getattr(splits, what)
        if not isinstance(names, tuple) or not all(isinstance(each, str) for each in names):
            problems.append(f"{what} are {names!r}, a tuple of names is wanted")
        elif what in ("class_names", "group_names") and (not names or len(set(names)) < len(names)):
            problems.append(f"{what} are {names!r}: one or more names are wanted, each once")
        elif what in ("class_names", "group_names"):
            problems += [f"{what}: {name!r} {UNPRINTABLE}" for name in names if not name.isprintable()]
    if not isinstance(splits.fingerprint, str) or not splits.fingerprint:
        problems.append(f"fingerprint is {splits.fingerprint!r}, a digest of the content is wanted")
    if problems:
        return problems
    for name in ("train", "validation", "test", "calibration"):
        split: object = getattr(splits, name)
        if split is not None or name != "calibration":
            problems += [f"{name}: {problem}" for problem in _split_problems(split, splits)]
    return problems


def _split_problems(split: object, splits: Splits) -> list[str]:
    if not isinstance(split, Split):
        return [f"it is {type(split).__name__}, a Split is wanted"]
    problems = []
    for what, numbers, names in (
        ("labels", split.labels, splits.class_names), ("groups", split.groups, splits.group_names),
    ):  # fmt: skip
        if not isinstance(numbers, np.ndarray) or numbers.dtype != np.int64 or numbers.ndim != 1:
            shown = f"{numbers.dtype} {numbers.shape}" if isinstance(numbers, np.ndarray) else type(numbers).__name__
            problems.append(f"{what} are {shown}, an int64 array [images] is wanted")
        elif len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(names):
            problems.append(f"{what} go from {numbers.min()} to {numbers.max()}, but there are {len(names)} names")
    if not isinstance(split.ids, tuple) or not all(isinstance(each, str) for each in split.ids):
        return [*problems, f"ids are {type(split.ids).__name__}, a tuple of names is wanted"]
    if problems:
        return problems
    lengths = {len(split.images), len(split.labels), len(split.groups), len(split.ids)}
    if len(lengths) > 1:
        return [f"images, labels, groups and ids have different lengths: {sorted(lengths)}"]
    image: object = split.images[0] if len(split) else None
    if image is not None and not (isinstance(image, Tensor) and image.ndim == 3 and len(image) == 3):
        shown = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        problems.append(f"an image is {shown}, a tensor [3, height, width] is wanted")
    return problems
