"""A recipe as parameters and a report as metrics: flat names and values."""

from __future__ import annotations

from collections.abc import Mapping

from fairquant.recipe.events import Report


def flatten(values: Mapping[str, object], path: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists of components by their names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        key = f"{path}.{name}" if path else str(name)
        if isinstance(value, Mapping):
            flat |= flatten(value, key)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for component in value:
                options = {k: v for k, v in component.items() if k != "name"}
                convention = options.get("convention", "valid")
                label = component.get("name", "?") + (f"-{convention}" if convention != "valid" else "")
                flat |= flatten(options, f"{key}.{label}") if options else {f"{key}.{label}": "on"}
        else:
            flat[key] = value
    return flat


def _beside_ends(group: str) -> str:
    """A group's name beside the ends of the interval, one to one: `low` is `group low`, and `group low` is `group group low`."""
    own = group
    while own.startswith("group "):
        own = own.removeprefix("group ")
    return f"group {group}" if own in ("low", "high") else group


def final_values(report: Report) -> dict[str, float | None]:
    """Final metrics: value, interval ends and each group's value; change against full precision; bits; bytes."""
    values: dict[str, float | None] = {
        "average_bits": report["bits"]["average"], "average_bits_of_all_weights": report["bits"]["average_all"],
        "artifact_bytes": report["artifact"]["bytes"],
    }  # fmt: skip
    for label, metric in report["metrics"].items():
        values[label] = metric["value"]
        values[f"{label}/low"], values[f"{label}/high"] = metric["low"], metric["high"]
        values |= {f"{label}/{_beside_ends(group)}": value for group, value in metric["by_group"].items()}
        values[f"baseline/{label}"] = report["baseline"]["metrics"][label]["value"]
    for name, change in report["change"].items():
        values[f"change/{name}"] = change["value"]
        values |= {f"change/{name}/{group}": interval["value"] for group, interval in change["by_group"].items()}
    return values
