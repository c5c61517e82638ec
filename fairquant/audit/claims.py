"""The limits of a recipe, taken apart: one claim for each quantity that has one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import unknown_classes
from fairquant.recipe.schema import Component, Limit
from fairquant.roles import AnyMetric, Predictions

ABSOLUTE = ("at least", "at most")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One limit of one quantity: of a metric (of a single class, where it has classes), overall or in a group (number)."""

    limit: Limit
    metric: Component[AnyMetric]
    name: str
    group: int | None

    def rows(self, predictions: Predictions) -> NDArray[np.bool_]:
        """The images of the group [N]."""
        if self.group is None:
            return np.ones(len(predictions.labels), bool)
        rows: NDArray[np.bool_] = predictions.groups == self.group
        return rows


def claims_of(limits: Sequence[Limit], predictions: Predictions) -> tuple[Claim, ...]:
    """Every limit taken apart by class and group; what two limits say equally stands once."""
    claims: dict[tuple[str, str, float], Claim] = {}
    for limit in limits:
        for claim in () if limit.metric is None else _claims(limit, limit.metric, predictions):
            claims.setdefault((claim.name, limit.kind, limit.bound), claim)
    return tuple(claims.values())


def _claims(limit: Limit, metric: Component[AnyMetric], predictions: Predictions) -> Iterator[Claim]:
    value = metric.value
    names: tuple[str | None, ...] = (None,)
    if has_classes(value):
        names = tuple(getattr(value, "classes", ())) or predictions.class_names
    groups = range(len(predictions.group_names)) if limit.by_group else ()
    for name in names:
        one: AnyMetric = value if name is None else replace(value, classes=(name,))  # type: ignore[type-var]
        for group in (None, *groups):
            what = metric.label if name is None else f"{metric.name} of {name}"
            where = "" if group is None else f" in '{predictions.group_names[group]}'"
            yield Claim(limit=limit, metric=Component(metric.name, one), name=what + where, group=group)


def class_problems(limits: Sequence[Limit], class_names: Sequence[str]) -> list[str]:
    """What is wrong with the classes that limits name."""
    return [
        problem
        for limit in limits
        if limit.metric is not None
        for problem in unknown_classes(
            f"accept.{limit.name}.classes", getattr(limit.metric.value, "classes", ()), class_names
        )
    ]


def has_classes(metric: AnyMetric) -> bool:
    """Whether the metric has an option `classes`: a limit is then one of each class by itself."""
    return is_dataclass(metric) and any(each.name == "classes" for each in fields(metric))
