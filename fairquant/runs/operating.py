"""Predictions at operating points that were chosen on validation images."""

from __future__ import annotations

from dataclasses import replace

from fairquant.audit.operating import choose_threshold
from fairquant.recipe.schema import Recipe
from fairquant.roles import Predictions
from fairquant.runs.results import BeforeAfter


def at_operating_points(recipe: Recipe, before: Predictions, after: Predictions) -> BeforeAfter:
    """Validation predictions, each with the operating point that is chosen on them where the recipe asks for one."""
    settings = recipe.operating_point
    if settings is None:
        return BeforeAfter(before, after)
    both = [replace(each, operating=choose_threshold(each, settings)) for each in (before, after)]
    return BeforeAfter(both[0], both[1])


def same_points(validation: BeforeAfter, before: Predictions, after: Predictions) -> BeforeAfter:
    """Test predictions at the operating points of validation."""
    return BeforeAfter(
        replace(before, operating=validation.before.operating), replace(after, operating=validation.after.operating)
    )
