"""What no section of a recipe can check by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairquant.errors import UserError
from fairquant.recipe.latency import read_table, widest
from fairquant.recipe.sections import QuantizeSettings


def across(values: dict[str, Any], problems: list[tuple[str, str]]) -> None:
    """Problems between sections, as (key, what is wrong)."""
    quantize, budget = values["quantize"], values["budget"]
    if values["quantizer"] is not None:
        if values["allocator"] is None:
            problems.append(("allocator", "a quantizer needs an allocator"))
        least = min([*quantize.choices, *quantize.pin.values()])
        if budget.average_bits is not None and budget.average_bits < least:
            problems.append(
                ("budget.average_bits", f"{budget.average_bits:g} is below the smallest of quantize.choices, {least}")
            )
        if budget.latency_table is not None:
            problems.extend(_latency(budget.latency_table, quantize))
        widths = getattr(values["quantizer"].value, "widths", range(9))  # a quantizer may name those it has
        strange = [bits for bits in (*quantize.choices, *quantize.pin.values()) if bits not in widths]
        if strange:
            problems.append(
                (
                    "quantize.choices",
                    f"quantizer {values['quantizer'].name!r} has no width {strange[0]}. Set [{', '.join(map(str, widths))}]",
                )
            )
        objections = getattr(values["allocator"].value if values["allocator"] else None, "objections", None)
        if objections is not None:  # what an allocator can say before anything is measured
            problems.extend(objections(budget.average_bits or 8.0, tuple(quantize.choices)))
    if budget.latency_table is not None and values["quantizer"] is None and not Path(budget.latency_table).is_file():
        problems.append(("budget.latency_table", f"no file {budget.latency_table!r}"))
    if values["train"].post_training is False and values["train"].epochs == 0:
        problems.append(("train.epochs", "0 epochs: set train.post_training: true to quantize without training"))


def _latency(file: str, quantize: QuantizeSettings) -> list[tuple[str, str]]:
    """What is wrong with a budget of milliseconds."""
    found = []
    if quantize.units != "tensor":
        found.append(("quantize.units", "a layer runs in one kernel: a budget of latency needs units: tensor"))
    try:
        most = widest(read_table(file))
    except UserError as error:
        return [*found, *(("budget.latency_table", problem) for problem in error.problems)]
    if most < max([*quantize.choices, *quantize.pin.values()]):
        found.append(("quantize.choices", f"budget.latency_table has times for up to {most} bits only"))
    return found
