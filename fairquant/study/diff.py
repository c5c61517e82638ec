"""fairquant diff: two runs or artifacts side by side, paired where they were tested on the same images."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairquant.audit.change import change_against, group_intervals
from fairquant.audit.evaluate import evaluate
from fairquant.errors import UserError
from fairquant.export.audit import recipe_of
from fairquant.recipe import Recipe, recipe_from
from fairquant.recipe.merge import read_overrides
from fairquant.recipe.schema import Component
from fairquant.registry import Plugins, discover
from fairquant.report.comparison import Difference
from fairquant.report.diff import Diff, Estimate, Flips, Group, Quantity, RecipeKey, Side
from fairquant.roles import AnyMetric, Predictions
from fairquant.roles.metric import lower_is_better
from fairquant.runs.folder import Display, Quiet
from fairquant.runs.reports import answer_of
from fairquant.study.matching import Matched, check_classes, match
from fairquant.study.proportions import Recall, decided, proportion
from fairquant.study.sides import Data, Source, open_source, predicted
from fairquant.study.statistics import paired_differences


def diff(
    a: str | os.PathLike[str], b: str | os.PathLike[str], *overrides: str, dataset: str | None = None,
    every: bool = False, display: Display | None = None, plugins: Plugins | None = None,
) -> Diff:  # fmt: skip
    """Two runs' folders or artifacts, side by side.

    overrides: of the recipe of `a`, whose data artifacts without stored predictions are tested on; dataset, every: other
    data for both, as in `fairquant audit`. Raises UserError where either cannot be read, with the problems of both, and where
    their classes differ.
    """
    plugins = discover() if plugins is None else plugins
    if wrong := read_overrides(overrides)[1]:
        raise UserError(wrong)
    first, second = _open([Path(a), Path(b)], dataset is not None)
    check_classes(first.classes, second.classes)
    needed = [source for source in (first, second) if source.stored is None]
    if overrides and not needed:
        raise UserError(
            f"{' '.join(overrides)}: without effect, because both have stored predictions. --dataset tests both on other data"
        )
    if every and dataset is None:
        raise UserError("--all: only with --dataset. The models were trained on most images of their own data")
    settings = [_settings(source, plugins) for source in (first, second)]
    data = None
    if needed:
        recipe = recipe_of({**first.metadata, "recipe": first.content}, first.path, overrides, plugins, dataset)
        data = Data(recipe=recipe, registry=plugins.registry, every=every, display=display or Quiet())
    (on_a, from_a), (on_b, from_b) = (predicted(source, data) for source in (first, second))
    matched = match(on_a, on_b)
    notes = [] if data is None or dataset is not None else _leaks(needed, data.recipe)
    sides = [_side(first, on_a.predictions, from_a), _side(second, on_b.predictions, from_b)]
    return _compared(matched, sides, (first.content, second.content), settings, notes)


def _open(paths: Sequence[Path], predict: bool) -> list[Source]:
    """Both sides; the problems of both where they have any."""
    sources: list[Source] = []
    problems: list[str] = []
    for path in paths:
        try:
            sources.append(open_source(path, predict))
        except UserError as error:
            problems += error.problems if error.where is None else [f"{error.where}: {p}" for p in error.problems]
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    return sources


def _settings(source: Source, plugins: Plugins) -> Recipe:
    """A recipe with the metrics and the seed of a side; its data need not be here, nor in the registry."""
    given = {key: source.content[key] for key in ("metrics", "seed") if source.content.get(key) is not None}
    return recipe_from(
        {"dataset": {"name": "synthetic-lesions"}, **given}, registry=plugins.registry,
        source=f"the recipe in {source.path}",
    )  # fmt: skip


def _leaks(predicted: Sequence[Source], recipe: Recipe) -> list[str]:
    """Files that may have been trained on images that they are tested on here."""

    def about(content: Mapping[str, Any]) -> object:
        section = content.get("dataset")
        if not isinstance(section, dict):
            return section
        own_seed = content.get("seed") if section.get("split_seed") is None else None
        return {**section, "root": None}, own_seed

    here = about(recipe.to_dict())
    return [
        f"{source.path} was made with another dataset section or seed than these test images: it may have been trained on some "
        "of them"
        for source in predicted
        if about(source.content) != here
    ]


def _side(source: Source, predictions: Predictions, made: str) -> Side:
    report, content = source.report, source.content
    method, seed = content.get("method"), content.get("seed")
    answer = None if report is None or source.stored is None else answer_of(report)
    return Side(
        path=str(source.path), recipe="-" if report is None else report["recipe"],
        method=method if isinstance(method, str) else None, seed=seed if isinstance(seed, int) else None,
        bits=source.bits, bytes=source.bytes, answer=answer, images=len(predictions.labels), predictions=made,
    )  # fmt: skip


def _compared(
    matched: Matched, sides: Sequence[Side], contents: tuple[Mapping[str, Any], Mapping[str, Any]],
    settings: Sequence[Recipe], notes: Sequence[str],
) -> Diff:  # fmt: skip
    """The numbers. Metrics of A first, then those that only B has; the bootstrap has the seed of A."""
    metrics: dict[str, Component[AnyMetric]] = {}
    for recipe in settings:
        for component in recipe.metrics:
            metrics.setdefault(component.label, component)
    seed, names = settings[0].seed, matched.a.class_names
    same = matched.pairing != "none"
    recalls = (proportion(name, Recall(number), matched.a, matched.b, same) for number, name in enumerate(names))
    return Diff(
        a=sides[0], b=sides[1], demo=any(content.get("demo") is True for content in contents),
        recipe=recipe_keys(*contents), pairing=matched.pairing,
        images=0 if matched.pairing == "none" else len(matched.a.labels), notes=(*matched.notes, *notes),
        metrics=_quantities(matched, list(metrics.values()), seed),
        flips=None if matched.pairing == "none" else flips(matched.a, matched.b),
        groups=_groups(matched), classes=tuple(each for each in recalls if each is not None),
        decided=decided(matched.a, matched.b, same),
    )  # fmt: skip


def _quantities(matched: Matched, metrics: Sequence[Component[AnyMetric]], seed: int) -> tuple[Quantity, ...]:
    """Fractions of images by their counts, all else by the bootstrap."""
    a, b = (evaluate(each, metrics, seed=seed) for each in (matched.a, matched.b))
    paired: dict[str, Difference] = {}
    if matched.pairing != "none":
        paired = paired_differences([(matched.a, matched.b)], metrics, seed=seed)
    return tuple(
        proportion(component.label, component.value, matched.a, matched.b, matched.pairing != "none") or Quantity(
            label=component.label, difference=paired.get(component.label), lower_is_better=lower_is_better(component.value),
            a=Estimate(a[component.label].value, a[component.label].low, a[component.label].high),
            b=Estimate(b[component.label].value, b[component.label].low, b[component.label].high),
        )
        for component in metrics
    )  # fmt: skip


def _groups(matched: Matched) -> tuple[Group, ...]:
    """Accuracy of each group of A, then of those that only B has; paired, the groups are the same."""
    a, b, paired = matched.a, matched.b, matched.pairing != "none"
    estimates = [group_intervals(each) for each in (a, b)]
    changes = change_against(b, a)["accuracy"].by_group if paired else {}
    groups = []
    for name in dict.fromkeys((*a.group_names, *b.group_names)):
        members = [
            each.groups == each.group_names.index(name) if name in each.group_names else np.zeros(0, bool)
            for each in (a, b)
        ]
        one, other = (Estimate(*each[name]) if name in each else None for each in estimates)
        groups.append(
            Group(
                name=name, images=(int(members[0].sum()), int(members[1].sum())), a=one, b=other,
                change=Difference(**changes[name]) if paired else None,
                flips=flips(a.take(np.flatnonzero(members[0])), b.take(np.flatnonzero(members[1]))) if paired else None,
            )
        )  # fmt: skip
    return tuple(groups)


def flips(a: Predictions, b: Predictions) -> Flips:
    """How many predictions of the same images differ, and how many of these became wrong or right."""
    before, now = a.predicted == a.labels, b.predicted == b.labels
    changed = a.predicted != b.predicted
    return Flips(int(changed.sum()), int((before & ~now).sum()), int((~before & now).sum()))


def recipe_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[RecipeKey, ...]:
    """Keys whose values differ; of a list, the items that only one side has."""
    one, other = _flat(a), _flat(b)
    keys = []
    for key in dict.fromkeys((*one, *other)):
        left, right = one.get(key, ()), other.get(key, ())
        if left == right or _is_section(key, one, other) or _is_section(key, other, one):
            continue
        if isinstance(left, list) and isinstance(right, list):
            left, right = [each for each in left if each not in right], [each for each in right if each not in left]
        keys.append(RecipeKey(key, _text(left), _text(right)))
    return tuple(keys)


def _is_section(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the key is null in one recipe and a section with keys of its own in the other, which say it already."""
    return one.get(key, ()) is None and any(each.startswith(f"{key}.") for each in other)


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _text(value: object) -> str:
    if value == ():
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
