"""The limits of a recipe that names none of its own."""

from __future__ import annotations

from typing import Any

#: Key of the limit of the file's size.
FILE = "file"

DEFAULT: dict[str, Any] = {
    "sensitivity": {"by": "group", "loss_at_most": 0.05},
    "accuracy": {"by": "group", "loss_at_most": 0.02},
}
#: Added to these where the recipe has an operating point.
DEFAULT_AT_OPERATING_POINT: dict[str, Any] = {
    "operating-point-sensitivity": {"by": "group", "loss_at_most": 0.05},
    "operating-point-specificity": {"loss_at_most": 0.05},
}


def default_limits(has_operating_point: bool) -> dict[str, Any]:
    """The section `accept` as it is where the recipe names no limit, or none but of the file's size."""
    return DEFAULT | (DEFAULT_AT_OPERATING_POINT if has_operating_point else {})
