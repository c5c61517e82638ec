"""A resolved recipe. A role's section is `name` plus the fields of that component's class."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from fairquant.recipe.limits import FILE, default_limits
from fairquant.recipe.sections import (
    ActivationSettings,
    BudgetSettings,
    CalibrationSettings,
    ModelSettings,
    OperatingPointSettings,
    Protect,
    QuantizeSettings,
    TrackingSettings,
    TrainSettings,
)

if TYPE_CHECKING:
    from fairquant.roles import Allocator, AnyMetric, Dataset, Importance, Quantizer, Reducer, Regularizer, Rounding

T_co = TypeVar("T_co", covariant=True)

PLAIN_SECTIONS: dict[str, type[object]] = {
    "model": ModelSettings,
    "baseline": TrainSettings,
    "budget": BudgetSettings,
    "quantize": QuantizeSettings,
    "activations": ActivationSettings,
    "calibration": CalibrationSettings,
    "train": TrainSettings,
    "tracking": TrackingSettings,
}
#: Sections that name one component each; all but the dataset may be null.
ROLE_SECTIONS = ("dataset", "importance", "reducer", "allocator", "quantizer", "rounding")
#: Sections with a list of components, and their role.
LIST_SECTIONS = {"regularizers": "regularizer", "metrics": "metric"}
SCALARS = ("seed", "method", "protect")
ALL_KEYS = (*SCALARS, *ROLE_SECTIONS, *PLAIN_SECTIONS, *LIST_SECTIONS, "operating_point", "accept", "search")

BASELINE_DEFAULTS: dict[str, object] = {
    "epochs": 20, "learning_rate": 1e-3, "weight_decay": 0.05, "warmup_epochs": 1.0,
    "early_stopping": {"metric": "accuracy", "patience": 20},
}  # fmt: skip

#: name, label, options; used where a recipe lists no metrics.
DEFAULT_METRICS: tuple[dict[str, str], ...] = (
    {"name": "accuracy"},
    {"name": "balanced-accuracy"},
    {"name": "worst-group-accuracy"},
    {"name": "accuracy-gap"},
    {"name": "worst-class-recall"},
    {"name": "worst-cell-recall"},
    {"name": "recall-loss"},
    *(
        {"name": name, "convention": convention}
        for convention in ("valid", "fairprune", "fairquant")
        for name in ("eopp0", "eopp1", "eodd")
    ),
    {"name": "demographic-parity"},
    {"name": "predictive-equality"},
    {"name": "predictive-parity"},
    {"name": "auc"},
    {"name": "worst-group-auc"},
    {"name": "ece"},
    {"name": "brier"},
)


@dataclass(frozen=True)
class Component(Generic[T_co]):
    """A built component of the role T with the name it has in the recipe. `label` is how results call it."""

    name: str
    value: T_co

    @property
    def label(self) -> str:
        """The name, with the qualifier of a metric that has one (see `fairquant.roles.QualifiedMetric`)."""
        qualifier = getattr(self.value, "qualifier", "")
        return f"{self.name}-{qualifier}" if qualifier else self.name

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, **plain_fields(self.value)}


def plain_fields(value: object) -> dict[str, object]:
    """The fields of a dataclass as plain data."""
    assert is_dataclass(value) and not isinstance(value, type)
    return asdict(value)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit of the section `accept`. metric None: the file's size in bytes; by_group: overall and in each group; given:
    as the recipe has it."""

    name: str
    kind: Literal["loss", "rise", "at least", "at most"]
    bound: float
    metric: Component[AnyMetric] | None
    by_group: bool
    given: Mapping[str, object]


@dataclass(frozen=True)
class Quantization:
    """How a recipe quantizes: the quantizer, the allocator that spends the budget, the importance it uses, and the rounding.

    importance None: every weight counts equally. reducer None: the mean over groups. rounding None: to the nearest.
    """

    quantizer: Component[Quantizer]
    allocator: Component[Allocator]
    importance: Component[Importance] | None
    reducer: Component[Reducer] | None
    rounding: Component[Rounding] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A resolved recipe: every default filled in, every component built. quantization None: full precision; selection: the
    metrics that choose epochs in either training."""

    name: str
    seed: int
    method: str
    protect: Protect
    dataset: Component[Dataset]
    model: ModelSettings
    baseline: TrainSettings
    budget: BudgetSettings
    quantize: QuantizeSettings
    activations: ActivationSettings
    calibration: CalibrationSettings
    quantization: Quantization | None
    regularizers: tuple[Component[Regularizer], ...]
    train: TrainSettings
    metrics: tuple[Component[AnyMetric], ...]
    selection: tuple[Component[AnyMetric], ...]
    operating_point: OperatingPointSettings | None
    accept: tuple[Limit, ...]
    tracking: TrackingSettings
    search: Mapping[str, object] = field(default_factory=dict)
    demo: bool = False
    notes: tuple[str, ...] = ()

    def components(self) -> Iterator[tuple[str, Component[object]]]:
        """Every component with its role."""
        yield "dataset", self.dataset
        if self.quantization is not None:
            for each in fields(self.quantization):
                component: Component[object] | None = getattr(self.quantization, each.name)
                if component is not None:
                    yield each.name, component
        for section, role in LIST_SECTIONS.items():
            for component in getattr(self, section):
                yield role, component
        for component in (*self.selection, *(limit.metric for limit in self.accept if limit.metric is not None)):
            yield "metric", component

    def to_dict(self) -> dict[str, object]:
        """As plain data, in the order of the sections; reading it again gives the same recipe."""
        single = {role: component for role, component in self.components() if role in ROLE_SECTIONS}
        content: dict[str, object] = {"seed": self.seed, "method": self.method, "protect": self.protect}
        for key in ROLE_SECTIONS:
            content[key] = single[key].to_dict() if key in single else None
        for key in PLAIN_SECTIONS:
            content[key] = plain_fields(getattr(self, key))
        for key in LIST_SECTIONS:
            content[key] = [component.to_dict() for component in getattr(self, key)]
        point = self.operating_point
        content["operating_point"] = None if point is None else plain_fields(point)
        content["accept"] = self._accept()
        if self.search:
            content["search"] = self.search
        plain: dict[str, object] = json.loads(json.dumps(content))
        return plain

    def _accept(self) -> dict[str, object]:
        """The section `accept`, each metric's limits as given; defaults that were taken away are null."""
        by_name: dict[str, list[Mapping[str, object]]] = {}
        for limit in self.accept:
            known = by_name.setdefault(limit.name, [])
            if limit.given not in known:
                known.append(limit.given)
        content: dict[str, object] = {name: given[0] if len(given) == 1 else given for name, given in by_name.items()}
        if set(content) <= {FILE}:
            content |= dict.fromkeys(default_limits(self.operating_point is not None))
        return content

    def digest(self) -> str:
        """Hash of everything that can change the result (not of where results are tracked)."""
        content = {key: value for key, value in self.to_dict().items() if key not in ("tracking", "search")}
        if self.budget.latency_table is not None:  # its numbers, not its path
            table = hashlib.sha256(Path(self.budget.latency_table).read_bytes()).hexdigest()
            content["budget"] = plain_fields(self.budget) | {"latency_table": table}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def with_changes(
        self, *, dataset: Component[Dataset] | None = None, model: ModelSettings | None = None, demo: bool | None = None,
        search: Mapping[str, object] | None = None,
    ) -> Recipe:  # fmt: skip
        """A copy with some sections replaced."""
        return replace(
            self,
            dataset=self.dataset if dataset is None else dataset,
            model=self.model if model is None else model,
            demo=self.demo if demo is None else demo,
            search=self.search if search is None else search,
        )
