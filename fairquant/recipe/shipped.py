"""The recipe as it ships in a file: without where results are tracked, paths, columns of tables, and anything else of the place."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from fairquant.recipe.schema import Recipe, plain_fields


@runtime_checkable
class HasPrivateOptions(Protocol):
    """A dataset that names those of its options that say where the data lie, or what is in them; the others may ship."""

    private: ClassVar[tuple[str, ...]]


def shipped_recipe(recipe: Recipe, average_bits: float) -> dict[str, object]:
    """The recipe's content for a file that leaves the house. Of the dataset the name and the options that are not
    `private`; numbers only, where it does not say which are. average_bits: of the result, in place of a budget that needs a file."""
    content = recipe.to_dict()
    for section in ("tracking", "search"):
        content.pop(section, None)
    value = recipe.dataset.value
    options = plain_fields(value)
    if isinstance(value, HasPrivateOptions):
        ships = {name: option for name, option in options.items() if name not in value.private}
    else:
        ships = {name: each for name, each in options.items() if each is None or isinstance(each, bool | int | float)}
    content["dataset"] = {"name": recipe.dataset.name, **ships}
    if recipe.model.weights is not None:
        content["model"] = plain_fields(recipe.model) | {"weights": None}
    if recipe.budget.latency_table is not None:
        content["budget"] = {"average_bits": round(average_bits, 6)}
    return content | {"demo": recipe.demo}
