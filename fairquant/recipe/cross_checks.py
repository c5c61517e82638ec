"""Checks that involve several sections of a recipe."""

from __future__ import annotations

from pathlib import Path

from fairquant.errors import UserError
from fairquant.recipe.latency import read_table, widest
from fairquant.recipe.schema import Quantization, Recipe
from fairquant.recipe.sections import QuantizeSettings
from fairquant.registry.build import Problems


def cross_check(recipe: Recipe) -> Problems:
    """Problems between sections, as (key, what is wrong)."""
    problems: Problems = []
    if recipe.quantization is not None:
        problems += _quantization(recipe, recipe.quantization)
    elif recipe.budget.latency_table is not None and not Path(recipe.budget.latency_table).is_file():
        problems.append(("budget.latency_table", f"no file {recipe.budget.latency_table!r}"))
    if not recipe.train.post_training and recipe.train.epochs == 0:
        problems.append(("train.epochs", "0 epochs: set train.post_training: true to quantize without training"))
    return problems + _changing_bits(recipe)


def _changing_bits(recipe: Recipe) -> Problems:
    """Whether bits that change in training go together with what else the recipe says."""
    problems: Problems = []
    train, quantization = recipe.train, recipe.quantization
    if quantization is not None and quantization.rounding is not None and train.narrow_until > 0:
        name = quantization.rounding.name
        problems.append(
            (
                "train.narrow_until",
                f"rounding {name!r} has brought the weights to the plan's bits already. Set rounding=null",
            )
        )
    if train.narrow_until > 0 and train.replan:
        problems.append(("train.narrow_until", "leave it out, or train.replan: both change the bits of an epoch"))
    if quantization is not None and train.replan and quantization.importance is None:
        problems.append(("train.replan", "the method has no importance, by which a plan could be made anew"))
    for name, wanted in (("narrow_until", recipe.baseline.narrow_until > 0), ("replan", recipe.baseline.replan)):
        if wanted:
            problems.append((f"baseline.{name}", "full precision has no bits to change"))
    return problems


def _quantization(recipe: Recipe, quantization: Quantization) -> Problems:
    """Whether budget, bit choices, quantizer and allocator go together."""
    from fairquant.roles.allocator import ChecksBudget  # not at the top: the command line starts without torch
    from fairquant.roles.quantizer import widths_of

    problems: Problems = []
    settings, budget, quantizer = recipe.quantize, recipe.budget, quantization.quantizer
    wanted = (*settings.choices, *settings.pin.values())
    if budget.average_bits is not None and budget.average_bits < min(wanted):
        text = f"{budget.average_bits:g} is below the smallest of quantize.choices, {min(wanted)}"
        problems.append(("budget.average_bits", text))
    if budget.latency_table is not None:
        problems += _latency(budget.latency_table, settings)
    widths = widths_of(quantizer.value)
    if missing := [bits for bits in wanted if bits not in widths]:
        known = ", ".join(map(str, widths))
        problems.append(("quantize.choices", f"quantizer {quantizer.name!r} has no width {missing[0]}. Set [{known}]"))
    allocator = quantization.allocator.value
    if isinstance(allocator, ChecksBudget):
        problems += allocator.objections(budget.average_bits or 8.0, settings.choices)
    return problems


def _latency(file: str, settings: QuantizeSettings) -> Problems:
    """What is wrong with a budget of milliseconds."""
    problems: Problems = []
    if settings.units != "tensor":
        problems.append(("quantize.units", "a layer runs in one kernel: a budget of latency needs units: tensor"))
    try:
        most = widest(read_table(file))
    except UserError as error:
        return [*problems, *(("budget.latency_table", problem) for problem in error.problems)]
    if most < 0:
        problems.append(("budget.latency_table", "has no times for any width up to 8 bits"))
    elif most < max([*settings.choices, *settings.pin.values()]):
        problems.append(("quantize.choices", f"budget.latency_table has times for up to {most} bits only"))
    return problems
