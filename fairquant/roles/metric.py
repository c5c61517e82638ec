"""Role `metric`: one number, the same per group, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
T = TypeVar("T")
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class OperatingPoint:
    """A decision at a threshold: positive where the probabilities of `classes` (numbers) sum to at least `threshold`."""

    classes: tuple[int, ...]
    threshold: float


class _Shared:
    """What metrics compute from the same counts or predictions is computed once."""

    @cached_property
    def _computed(self) -> dict[Hashable, Any]:  # each value of the type that its key's function returns
        return {}

    def shared(self, make: Callable[..., T], *options: Hashable) -> T:
        """make(self, *options), computed once however often metrics and their replicates ask for it."""
        if (make, *options) not in self._computed:
            made = make(self, *options)
            self._computed[(make, *options)] = _read_only(made) if isinstance(made, np.ndarray) else made
        value: T = self._computed[(make, *options)]
        return value


def _read_only(values: NDArray[Number]) -> NDArray[Number]:
    view = values.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, kw_only=True)
class Predictions(_Shared):
    """logits [N, C] float32; labels, groups [N] int64; ids name the images.

    reference: predictions of the full-precision model on the same images, where this is another model; operating: the
    model's operating point, where the recipe asks for one.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    group_names: tuple[str, ...]
    class_names: tuple[str, ...]
    ids: tuple[str, ...] = ()
    reference: Predictions | None = None
    operating: OperatingPoint | None = None

    def __post_init__(self) -> None:
        """The arrays cannot be written into: all metrics read the same ones."""
        for name in ("logits", "labels", "groups"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The class with the largest logit [N]."""
        return _read_only(self.logits.argmax(1).astype(np.int64))

    @cached_property
    def probabilities(self) -> Floats:
        """Softmax of the logits [N, C] in float64."""
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(1, keepdims=True))
        return _read_only(shifted / shifted.sum(1, keepdims=True))

    def score(self, classes: tuple[int, ...]) -> Floats:
        """Summed probability of some classes [N]."""
        total: Floats = self.probabilities[:, list(classes)].sum(1)
        return total

    def take(self, rows: NDArray[np.int64]) -> Predictions:
        """The predictions of some images, in that order; rows [M], with repetitions where an image counts more than once."""
        return replace(
            self, logits=self.logits[rows], labels=self.labels[rows], groups=self.groups[rows],
            ids=tuple(self.ids[row] for row in rows) if self.ids else (),
            reference=None if self.reference is None else self.reference.take(rows),
        )  # fmt: skip


class Confusion(_Shared):
    """Counts table [..., G, C true, C predicted] with any number of leading axes, and the sums that metrics share."""

    def __init__(self, table: Floats, class_names: tuple[str, ...] = (), reference: Confusion | None = None) -> None:
        """table [..., G, C true, C predicted]: counts of images. class_names: C names, where they are known."""
        self._table, self.class_names, self._reference = _read_only(table), class_names, reference

    @property
    def reference(self) -> Confusion:
        """The full-precision model's counts on the same images; its own, where there is no other model."""
        return self if self._reference is None else self._reference

    @property
    def table(self) -> Floats:
        """Counts of images [..., G, C true, C predicted]."""
        return self._table

    @cached_property
    def hits(self) -> Floats:
        """Right answers by group and class [..., G, C]."""
        return np.diagonal(self.table, axis1=-2, axis2=-1)

    @cached_property
    def truth(self) -> Floats:
        """Images of each class in each group [..., G, C]."""
        return _read_only(self.table.sum(-1))

    @cached_property
    def predicted(self) -> Floats:
        """Predictions of each class in each group [..., G, C]."""
        return _read_only(self.table.sum(-2))

    @cached_property
    def images(self) -> Floats:
        """Images of each group [..., G]."""
        return _read_only(self.truth.sum(-1))


@dataclass(frozen=True)
class Rates:
    """What a metric computes. value [...]; by_group [..., G] or None; skipped [...]: cells without enough support."""

    value: Floats
    by_group: Floats | None = None
    skipped: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """A metric with its 95 % bootstrap interval; by_group: name -> value; skipped: cells left out for lack of images."""

    value: float
    low: float
    high: float
    by_group: dict[str, float]
    skipped: int = 0
    permutation_baseline: float | None = None  # for gaps: the mean value when groups are permuted


@runtime_checkable
class Metric(Protocol):
    """Either a ConfusionMetric or a SampleMetric; `needs` says which. `gap` marks those whose ideal is 0 between groups.

    Laws: the order and the names of groups do not matter; a gap is 0 where all groups have the same predictions.
    """

    needs: ClassVar[Literal["confusion", "predictions"]]
    gap: ClassVar[bool]


@runtime_checkable
class ConfusionMetric(Protocol):
    """Computed from counts alone, for any number of leading axes.

    The audit draws all bootstrap replicates of the one confusion tensor at once and feeds them to every such metric.

        @dataclass(frozen=True)
        class Accuracy:
            needs: ClassVar = "confusion"
            gap: ClassVar = False
            def evaluate(self, confusion):
                right = confusion.hits.sum(-1)                                      # [..., G]
                return Rates(right.sum(-1) / confusion.images.sum(-1), right / confusion.images)
    """

    needs: ClassVar[Literal["confusion"]]
    gap: ClassVar[bool]

    def evaluate(self, confusion: Confusion) -> Rates: ...


@runtime_checkable
class SampleMetric(Protocol):
    """Computed from predictions (areas under curves, calibration, comparisons); the audit resamples the images.

    Optional, much faster: `weighted`, see `WeightedMetric`.
    """

    needs: ClassVar[Literal["predictions"]]
    gap: ClassVar[bool]

    def evaluate(self, predictions: Predictions) -> Rates: ...


#: What the registry gives for role `metric`; `needs` tells the two apart.
AnyMetric = ConfusionMetric | SampleMetric


@runtime_checkable
class WeightedMetric(Protocol):
    """A sample metric whose value under image weights is known without drawing the images one by one."""

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        """weights [R, N], how often each image counts -> values [R]."""
        ...


@runtime_checkable
class ProportionMetric(Protocol):
    """A metric that is the fraction of some images that are right: the audit tests it exactly, image by image, and not by
    resampling."""

    def counted(self, predictions: Predictions) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """The images that count, and those that are right [N], [N]; None where these options make it no such fraction."""
        ...


@runtime_checkable
class DirectedMetric(Protocol):
    """A metric that says itself which way is better; otherwise gaps are better low and all others high."""

    lower_is_better: ClassVar[bool]


@runtime_checkable
class BoundedMetric(Protocol):
    """A metric that says itself between which values it lies, so that a limit nothing can break is refused; gaps lie between 0
    and 1."""

    bounds: ClassVar[tuple[float, float]]


@runtime_checkable
class QualifiedMetric(Protocol):
    """A metric whose options change what is computed: `qualifier` is added to its name in results, such as "fairprune" in
    "eodd-fairprune"; "" adds nothing."""

    @property
    def qualifier(self) -> str: ...


def bounds_of(metric: AnyMetric) -> tuple[float, float]:
    """Between which values a metric lies; infinite where it does not say."""
    if isinstance(metric, BoundedMetric):
        return metric.bounds
    return (0.0, 1.0) if metric.gap or isinstance(metric, ProportionMetric) else (-math.inf, math.inf)


def lower_is_better(metric: AnyMetric) -> bool:
    """Whether a lower value is better: as the metric says, else whether it is a gap."""
    return metric.lower_is_better if isinstance(metric, DirectedMetric) else metric.gap
