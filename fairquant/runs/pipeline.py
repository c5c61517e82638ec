"""One run, as the paper tells it.

recipe -> dataset -> model -> full-precision baseline -> importance per group -> reduce -> allocate under the budget
-> attach quantizers -> train weights and bits -> project onto the budget -> predict -> audit -> artifact -> answer
(-> report)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from fairquant.audit.acceptance import acceptance
from fairquant.audit.claims import class_problems
from fairquant.audit.evaluate import audit
from fairquant.audit.operating import class_numbers, decisions_of
from fairquant.bits import Attachment, find_layers
from fairquant.bits.activations import float_inputs_note
from fairquant.bits.costs import Operations, count_operations
from fairquant.bits.fallback import Comparison
from fairquant.bits.layers import float_note, pinned_bits
from fairquant.bits.multiplications import count_multiplications
from fairquant.data.batching import batches
from fairquant.data.protection import protect
from fairquant.data.ranks import is_leader
from fairquant.errors import UserError
from fairquant.recipe.schema import Quantization, Recipe
from fairquant.roles import Allocation, BitPlan, Layer, Splits
from fairquant.roles.dataset import Intensity
from fairquant.rounding.checkpoint import RoundingCheckpoint
from fairquant.rounding.stage import RoundedNetwork
from fairquant.runs.baseline import train_baseline
from fairquant.runs.folder import Run, versions_key
from fairquant.runs.identity import digest_of
from fairquant.runs.operating import at_operating_points, same_points
from fairquant.runs.planning import Planning
from fairquant.runs.replanning import replan
from fairquant.runs.results import BeforeAfter, Quantized, Results, ValidationResults
from fairquant.runs.shipped import describe, write_artifact
from fairquant.runs.training import repair_batch_norm, train_quantized
from fairquant.training.devices import make_deterministic
from fairquant.training.model import Model
from fairquant.training.predict import predict

#: Of the layers that are rounded already.
ROUNDING = Path("checkpoints") / "rounding.pt"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Quantizers attached to a model, and how their bits were allocated. input_bits: layer -> bits of its input; replan: makes
    another for the weights as they are then; rounded: where the recipe has a rounding; comparison: of the allocator's plan with
    uniform bits."""

    attachment: Attachment
    allocation: Allocation
    operations: Operations
    input_bits: Mapping[str, int]
    replan: Callable[[], BitPlan]
    rounded: RoundedNetwork | None = None
    comparison: Comparison | None = None


def run_pipeline(recipe: Recipe, run: Run, splits: Splits, model: Model) -> Results | ValidationResults | None:
    """Run every stage; nothing is written but checkpoints and the artifact.

    ValidationResults where the run is `validation_only`; None on the ranks of torchrun that do not write.
    """
    parts = check_classes(recipe, splits)
    make_deterministic()
    if recipe.quantization is not None:  # what is wrong with the patterns is said before anything is trained
        pinned_bits(
            layers_of(recipe, model, count_multiplications(model.network, first_image(parts, model))[0]),
            recipe.quantize.pin,
        )
    with run.stage("baseline"):
        if not model.trained:
            train_baseline(recipe, run, splits, model)
        baseline = model.copy()

    plan = None if recipe.quantization is None else make_plan(recipe, recipe.quantization, run, parts, model)

    with run.stage("train"):
        if not recipe.train.post_training:
            quantizers = (None, None) if plan is None else (plan.attachment, plan.replan)
            train_quantized(recipe, run, splits, model, baseline, *quantizers)
        quantized = None if plan is None else finish(plan, trained=not recipe.train.post_training)
        if recipe.train.batch_norm != "as-trained":
            repair_batch_norm(recipe, parts, model)

    with run.stage("validation"):
        validation = at_operating_points(
            recipe, predict(baseline, splits.validation), predict(model, splits.validation)
        )
    if run.validation_only:
        if not is_leader():
            return None
        return _validation_results(recipe, run, model, validation, quantized, splits.intensity)

    with run.stage("audit"):  # the one time that test images are read
        test = same_points(validation, predict(baseline, splits.test), predict(model, splits.test))
        if not is_leader():
            return None  # the leader writes; the others read its report
        test_audit = audit(test.after, test.before, recipe.metrics, attributes=splits.attributes, seed=recipe.seed)
    with run.stage("artifact"):
        about = describe(recipe, model, average_bits(quantized), test_audit, test.after.operating, splits.intensity)
        artifact = write_artifact(run, "model.safetensors", model, quantized, about)
    with run.stage("answer"):
        point = recipe.operating_point
        decisions = None if point is None else decisions_of(test.before, test.after, point, test_audit.cells)
        answer = acceptance(test.after, test.before, recipe.accept, artifact["bytes"], seed=recipe.seed)
    return Results(
        splits=splits, network=model.network, validation=validation, test=test, audit=test_audit, decisions=decisions,
        acceptance=answer, artifact=artifact, quantized=quantized,
    )  # fmt: skip


def check_classes(recipe: Recipe, splits: Splits) -> Splits:
    """The splits by the parts that the recipe protects. UserError, before anything is trained, where it names classes that the
    data do not have."""
    problems = class_problems(recipe.accept, splits.class_names)
    for check in (
        lambda: protect(splits, recipe.protect),
        lambda: None if recipe.operating_point is None else class_numbers(recipe.operating_point, splits.class_names),
    ):
        try:
            check()
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return protect(splits, recipe.protect)


def average_bits(quantized: Quantized | None) -> float:
    """Bits per quantized weight; 32 in full precision."""
    return 32.0 if quantized is None else quantized.plan.average


def layers_of(recipe: Recipe, model: Model, multiplied: Mapping[str, int]) -> tuple[Layer, ...]:
    """The layers that are quantized. multiplied: parameters that the forward pass multiplies with. Raises UserError for patterns
    that match none."""
    return find_layers(model.network, recipe.quantize.units, recipe.quantize.keep, multiplied.keys())


def make_plan(recipe: Recipe, quantization: Quantization, run: Run, splits: Splits, model: Model) -> Plan:
    """Importance per group, then bits within the budget; the quantizers are attached to the model."""
    image = first_image(splits, model)
    multiplied = count_multiplications(model.network, image)[0]
    layers = layers_of(recipe, model, multiplied)
    if note := float_note(model.network, layers, multiplied.keys()):
        run.say(note)
    planning = Planning(
        recipe=recipe, quantization=quantization, splits=splits, model=model, layers=layers,
        cache_dir=run.runs / "probes" / versions_key(run.plugins),
    )  # fmt: skip
    with run.stage("importance"):
        measured = planning.sensitivity.measure()
        run.notify("fairquant_importance_done", importance=measured.importance)
    with run.stage("allocation"):
        input_bits, operations = planning.start_activations(), count_operations(model.network, layers, image)
        if recipe.activations.bits is not None and (note := float_inputs_note(layers, input_bits)):
            run.say(note)
        cost_model = planning.cost_model(operations, input_bits)
        about = describe(recipe, model, 0.0, None, None, splits.intensity)
        allocated = planning.allocate(measured, cost_model, about)
        if (comparison := allocated.comparison) is not None:
            (run.say if comparison.fallback else run.log)(str(comparison))
        run.notify("fairquant_plan_made", plan=allocated.plan)
    rounded = None if quantization.rounding is None else round_layers(planning, run, allocated.plan)
    attachment = planning.attach(allocated, rounded)
    return Plan(
        attachment=attachment, allocation=allocated.allocation, operations=operations, input_bits=input_bits,
        replan=partial(replan, planning, attachment, allocated.problem, cost_model, about, run.log), rounded=rounded,
        comparison=allocated.comparison,
    )  # fmt: skip


def round_layers(planning: Planning, run: Run, plan: BitPlan) -> RoundedNetwork:
    """The codes of every layer; its weights become the rounded ones, from which training starts where there is any."""
    with run.stage("rounding"):
        checkpoint = RoundingCheckpoint(file=run.folder / ROUNDING, made_for=digest_of(run.identity))
        rounded = planning.round(plan, checkpoint, run.steps("rounding"))
    assert planning.quantization.rounding is not None
    alone = [name for name, each in rounded.layers.items() if not each.compensated]
    if planning.quantization.rounding.value.needs and alone:
        run.say(
            f"{len(alone)} of {len(rounded.layers)} layers are rounded to the nearest, since their products could not be observed: "
            f"{', '.join(alone[:4])}{', ...' if len(alone) > 4 else ''}"
        )
    for reason in dict.fromkeys(reason for reason in rounded.blocks.values() if reason is not None):
        names = [name for name, own in rounded.blocks.items() if own == reason]
        run.say(
            f"{len(names)} of {len(rounded.blocks)} blocks stay as their layers were rounded, since {reason}: {', '.join(names[:4])}"
            f"{', ...' if len(names) > 4 else ''}"
        )
    return rounded


def first_image(splits: Splits, model: Model) -> Tensor:
    """The first training image [1, 3, H, W], as the network takes it."""
    stream = batches(splits.train.subset(np.arange(1)), 1, model.normalization, model.device)
    return next(iter(stream)).images


def finish(plan: Plan, trained: bool) -> Quantized:
    """Project the bits onto the budget, encode the weights, and detach the quantizers: from here on the network is the
    plain module that ships. What was rounded and not trained since ships as it is."""
    if plan.rounded is not None and not trained:
        bits, weights = plan.attachment.start, plan.rounded.weights
        plan.attachment.detach(weights)
    else:
        bits, weights = plan.attachment.project_to_budget(), plan.attachment.encode()
        plan.attachment.detach()
    return Quantized(
        layers=plan.attachment.layers, plan=bits, start=plan.attachment.start, weights=weights,
        allocation=plan.allocation, operations=plan.operations, input_bits=plan.input_bits,
        cost_model=plan.attachment.budget.cost_model, comparison=plan.comparison, rounded=plan.rounded,
    )  # fmt: skip


def _validation_results(
    recipe: Recipe, run: Run, model: Model, validation: BeforeAfter, quantized: Quantized | None, intensity: Intensity
) -> ValidationResults:
    """The size of the file is measured by writing it."""
    name = "checkpoints/validation_only.safetensors"
    average = average_bits(quantized)
    about = describe(recipe, model, average, None, validation.after.operating, intensity)
    artifact = write_artifact(run, name, model, quantized, about)
    (run.folder / name).unlink(missing_ok=True)
    return ValidationResults(
        validation=validation, average_bits=average, artifact_bytes=artifact["bytes"],
        plan=None if quantized is None else quantized.plan,
    )  # fmt: skip
