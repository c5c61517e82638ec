"""A resolved recipe. A role's section is `name` plus the fields of that component's class."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fairquant.recipe.sections import (
    ActivationSettings,
    BudgetSettings,
    CalibrationSettings,
    ModelSettings,
    QuantizeSettings,
    TrackingSettings,
    TrainSettings,
)

PLAIN_SECTIONS: dict[str, type[Any]] = {
    "model": ModelSettings,
    "baseline": TrainSettings,
    "budget": BudgetSettings,
    "quantize": QuantizeSettings,
    "activations": ActivationSettings,
    "calibration": CalibrationSettings,
    "train": TrainSettings,
    "tracking": TrackingSettings,
}
#: Sections with one component, and whether they may be null.
ROLE_SECTIONS: dict[str, bool] = {
    "dataset": False, "importance": True, "reducer": True, "allocator": True, "quantizer": True,
}  # fmt: skip
#: Sections with a list of components, and their role.
LIST_SECTIONS = {"regularizers": "regularizer", "metrics": "metric"}
SCALARS = ("seed", "method")
ALL_KEYS = (*SCALARS, *ROLE_SECTIONS, *PLAIN_SECTIONS, *LIST_SECTIONS, "search")

BASELINE_DEFAULTS: dict[str, Any] = {
    "epochs": 20, "learning_rate": 1e-3, "weight_decay": 0.05, "warmup_epochs": 1.0,
    "early_stopping": {"metric": "accuracy", "patience": 20},
}  # fmt: skip

#: name, label, options; used where a recipe lists no metrics.
DEFAULT_METRICS: tuple[dict[str, Any], ...] = (
    {"name": "accuracy"},
    {"name": "balanced-accuracy"},
    {"name": "worst-group-accuracy"},
    {"name": "accuracy-gap"},
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
class Component:
    """A built component with the name it has in the recipe. `label` is how results call it."""

    name: str
    value: Any

    @property
    def label(self) -> str:
        convention = getattr(self.value, "convention", "valid")
        return self.name if convention == "valid" else f"{self.name}-{convention}"

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self.value)}


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: every default filled in, every component built."""

    name: str
    seed: int
    method: str
    dataset: Component
    model: ModelSettings
    baseline: TrainSettings
    budget: BudgetSettings
    quantize: QuantizeSettings
    activations: ActivationSettings
    calibration: CalibrationSettings
    importance: Component | None
    reducer: Component | None
    allocator: Component | None
    quantizer: Component | None
    regularizers: tuple[Component, ...]
    train: TrainSettings
    metrics: tuple[Component, ...]
    tracking: TrackingSettings
    search: dict[str, Any] = field(default_factory=dict)
    demo: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain data, in the order of the sections; reading it again gives the same recipe."""
        found: dict[str, Any] = {"seed": self.seed, "method": self.method}
        for key in (*ROLE_SECTIONS, *PLAIN_SECTIONS):
            value = getattr(self, key)
            found[key] = value.to_dict() if isinstance(value, Component) else None if value is None else asdict(value)
        for key in LIST_SECTIONS:
            found[key] = [component.to_dict() for component in getattr(self, key)]
        if self.search:
            found["search"] = self.search
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain

    def digest(self) -> str:
        """Hash of everything that can change the result (not of where results are tracked)."""
        content = {key: value for key, value in self.to_dict().items() if key not in ("tracking", "search")}
        if self.budget.latency_table is not None:  # its numbers, not its place
            table = Path(self.budget.latency_table).read_bytes()
            content["budget"]["latency_table"] = hashlib.sha256(table).hexdigest()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def with_(self, **changes: Any) -> Recipe:
        return replace(self, **changes)
