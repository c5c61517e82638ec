"""One run, as the paper tells it.

recipe -> dataset -> model -> full-precision baseline -> importance per group -> reduce -> allocate under the budget
-> attach quantizers -> train weights and bits -> settle within the budget -> predict -> audit -> artifact -> report
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fairquant.artifact.save import artifact_content, save_artifact
from fairquant.audit import Audit, audit
from fairquant.baseline import train_baseline
from fairquant.bits import Attachment, attach, find_layers, make_problem, plan_of
from fairquant.bits.activations import describe_inputs, quantize_inputs
from fairquant.bits.layers import pinned_bits
from fairquant.bits.probe import LossProbe
from fairquant.bits.spending import Operations, count_operations, within_size
from fairquant.data.batching import batches, draw_calibration
from fairquant.data.transforms import Normalization
from fairquant.recipe.schema import Recipe
from fairquant.results import HELD, Results, write_held, write_results
from fairquant.roles import Allocation, BitPlan, GroupImportance, Layer, Split, Splits
from fairquant.runs import Run
from fairquant.training.batch_norm import like_train, reestimate_batch_norm
from fairquant.training.devices import choose_device, make_deterministic
from fairquant.training.distributed import is_leader
from fairquant.training.loop import Trainer, train
from fairquant.training.predict import predict


@dataclass(frozen=True)
class Model:
    """The network, how its inputs are normalised, how `fairquant.load` builds it again, and whether it is the caller's
    own trained one (then it is its own full-precision baseline)."""

    network: nn.Module
    normalize: Normalization
    architecture: dict[str, Any]
    trained: bool = False


def run_pipeline(recipe: Recipe, run: Run, splits: Splits, model: Model) -> dict[str, Any]:
    """The whole way through; returns the report, everything else lies in the run's folder."""
    make_deterministic()
    device = choose_device(recipe.train.device)
    network, names = model.network.to(device), (splits.group_names, splits.class_names)

    with run.stage("baseline"):
        if not model.trained:
            train_baseline(recipe, run, splits, network, model.normalize, device)
        baseline = copy.deepcopy(network)

    layers: tuple[Layer, ...] = ()
    attachment, allocation, operations = None, None, None
    inputs: dict[str, int] = {}
    if recipe.quantizer is not None:
        layers = find_layers(network, recipe.quantize.units, recipe.quantize.keep)
        with run.stage("importance"):
            importance = measure_importance(recipe, splits, network, layers, model.normalize, device)
            run.notify("fairquant_importance_done", importance=importance)
        with run.stage("allocation"):
            probe = make_probe(recipe, splits, network, layers, model.normalize, device)
            if recipe.activations.bits is not None:
                inputs = start_activations(recipe, splits, network, layers, model.normalize, device)
            operations = operations_of(recipe, splits, network, layers, model.normalize, device)
            empty = describe(recipe, splits, model, Audit({}, {}, {}, {}), 0.0)
            measure = partial(file_bytes, recipe, network, layers, empty)
            attachment, allocation = allocate_and_attach(
                recipe, layers, importance, probe, (operations, inputs), measure
            )
            run.notify("fairquant_plan_made", plan=attachment.start)

    with run.stage("train"):
        if not recipe.train.post_training:
            train_quantized(recipe, run, splits, network, model.normalize, attachment, device, teacher=baseline)
        plan = attachment.settle() if attachment is not None else None
        weights = attachment.encode() if attachment is not None else {}
        if attachment is not None:
            attachment.detach()  # from here on the network is the plain module that ships
        if recipe.train.batch_norm != "as-trained":
            settings, balanced = recipe.calibration, recipe.train.batch_norm.endswith("balanced")
            images = like_train(splits.train, settings.images, len(splits.group_names), recipe.seed, balanced)
            reestimate_batch_norm(network, batches(images, settings.batch_size, model.normalize, device))

    with run.stage("validation"):
        validation = (
            predict(baseline, splits.validation, names, model.normalize, device),
            predict(network, splits.validation, names, model.normalize, device),
        )
    if run.hold_test and is_leader():
        empty = describe(recipe, splits, model, Audit({}, {}, {}, {}), 0.0)
        return write_held(run, validation, plan, save_artifact(run.folder / HELD, network, layers, weights, empty))

    with run.stage("audit"):
        # the one time that test images are read
        before = predict(baseline, splits.test, names, model.normalize, device)
        after = predict(network, splits.test, names, model.normalize, device)
        if not is_leader():
            return {}  # the leader writes; the others read its report
        audited: Audit = audit(after, before, recipe.metrics, seed=recipe.seed)

    with run.stage("artifact"):
        described = describe(recipe, splits, model, audited, plan.average if plan is not None else 32.0)
        artifact = save_artifact(run.folder / "model.safetensors", network, layers, weights, described)

    results = Results(
        splits,
        audited,
        before,
        after,
        validation,
        plan,
        attachment,
        allocation,
        weights,
        artifact,
        network,
        operations,
        inputs,
    )
    return write_results(recipe, run, results)


def measure_importance(
    recipe: Recipe, splits: Splits, network: nn.Module, layers: tuple[Layer, ...], normalize: Normalization,
    device: torch.device,
) -> GroupImportance:  # fmt: skip
    """Importance of every unit to every group, on calibration images; all ones where the method asks for none."""
    groups = len(splits.group_names)
    if recipe.importance is None:
        ones = {layer.name: torch.full((groups, layer.units), float(layer.unit_size)) for layer in layers}
        return GroupImportance(ones, splits.group_names)
    stream = batches(calibration_images(recipe, splits), recipe.calibration.batch_size, normalize, device)
    found: GroupImportance = recipe.importance.value.measure(network, stream, layers, splits.group_names)
    return found


def calibration_images(recipe: Recipe, splits: Splits) -> Split:
    """The dataset's own calibration images, or a draw of training images with the groups alike."""
    count, groups = recipe.calibration.images, len(splits.group_names)
    return splits.calibration or draw_calibration(splits.train, count, groups, recipe.seed)


def make_probe(
    recipe: Recipe, splits: Splits, network: nn.Module, layers: tuple[Layer, ...], normalize: Normalization,
    device: torch.device,
) -> LossProbe:  # fmt: skip
    """For allocators that measure: the losses of a plan on a few calibration images. Costs nothing until it is asked."""
    assert recipe.quantizer is not None
    images = calibration_images(recipe, splits)
    few = images.subset(np.arange(min(recipe.calibration.probe_images, len(images))))
    stream = partial(batches, few, recipe.calibration.batch_size, normalize, device)
    return LossProbe(network, layers, recipe.quantizer.value, stream, len(splits.group_names))


def start_activations(
    recipe: Recipe, splits: Splits, network: nn.Module, layers: tuple[Layer, ...], normalize: Normalization,
    device: torch.device,
) -> dict[str, int]:  # fmt: skip
    """Few bits for the layers' inputs, started on calibration images; layer -> bits."""
    assert recipe.activations.bits is not None
    stream = batches(calibration_images(recipe, splits), recipe.calibration.batch_size, normalize, device)
    return quantize_inputs(network, layers, stream, recipe.activations.bits, recipe.activations.first)


def operations_of(
    recipe: Recipe, splits: Splits, network: nn.Module, layers: tuple[Layer, ...], normalize: Normalization,
    device: torch.device,
) -> Operations:  # fmt: skip
    """Multiply-accumulates of one image, by layer."""
    image = next(iter(batches(splits.train.subset(np.arange(1)), 1, normalize, device))).images
    return count_operations(network, layers, image)


def file_bytes(
    recipe: Recipe, network: nn.Module, layers: tuple[Layer, ...], metadata: dict[str, Any], plan: BitPlan
) -> int:
    """At most what the file will have with this plan, everything in it counted."""
    assert recipe.quantizer is not None
    weights = {}
    for layer in layers:
        weight, bits = layer.weight.detach(), plan.bits[layer.name]
        weights[layer.name] = recipe.quantizer.value.build(weight, bits, recipe.quantize.choices).encode(weight)
    audit_text, padding = 200 + 80 * len(recipe.metrics), 9 * len(layers)  # a byte for each width of each layer
    return len(artifact_content(network, layers, weights, metadata)) + audit_text + padding


def allocate_and_attach(
    recipe: Recipe, layers: tuple[Layer, ...], importance: GroupImportance, probe: LossProbe,
    work: tuple[Operations, Mapping[str, int]], measure: Callable[[BitPlan], int],
) -> tuple[Attachment, Allocation]:  # fmt: skip
    """Reduce over groups, spend the budget, put the quantizers on."""
    assert recipe.allocator is not None
    assert recipe.quantizer is not None
    table = importance.table()
    reduce = recipe.reducer.value.reduce if recipe.reducer is not None else lambda scores, names: scores.mean(0)
    quantizer, quantize, budget = recipe.quantizer.value, recipe.quantize, recipe.budget
    pinned, allocator = pinned_bits(layers, quantize.pin), recipe.allocator.value
    operations, inputs = work
    spending = None if budget.bit_operations is None else operations.spending(budget.bit_operations, inputs)
    most = budget.average_bits or 8.0 if spending is None else spending.average_bits(layers)
    problem = make_problem(
        layers, importance, reduce(table, importance.group_names), quantizer, quantize.choices, most, pinned, probe,
        spending,
    )  # fmt: skip

    def allocate(bits: float) -> tuple[Allocation, BitPlan]:
        found: Allocation = allocator.allocate(replace(problem, average_bits=bits))
        return found, plan_of(layers, found.bits)

    if budget.bytes is None:
        allocation, plan = allocate(most)
    else:
        allocation, plan, most = within_size(budget.bytes, budget.average_bits, problem.least_bits(), allocate, measure)
    attachment = attach(layers, quantizer, plan, quantize.choices, most, pinned, problem.scores, spending)
    return attachment, allocation


def train_quantized(
    recipe: Recipe, run: Run, splits: Splits, network: nn.Module, normalize: Normalization,
    attachment: Attachment | None, device: torch.device, teacher: nn.Module | None = None,
) -> None:  # fmt: skip
    """Weights, and bits where they are learnt, under the method's regularizers (fp32: the same training, no quantizers)."""
    train(
        Trainer(
            network, splits.train, splits.validation, (splits.group_names, splits.class_names), normalize, device,
            seed=recipe.seed + 1, checkpoint=run.folder / "checkpoints" / "train.pt", attachment=attachment,
            regularizers=recipe.regularizers, teacher=teacher, on_step=run.steps("training"),
            on_epoch=lambda epoch, values: run.epoch("quantized", epoch, values),
        ),
        recipe.train,
    )  # fmt: skip


def describe(recipe: Recipe, splits: Splits, model: Model, audited: Audit, average_bits: float) -> dict[str, Any]:
    """The artifact's metadata."""
    normalize = model.normalize
    return {
        "architecture": model.architecture,
        "classes": list(splits.class_names),
        "groups": list(splits.group_names),
        "preprocessing": {
            "image_size": recipe.model.image_size, "mean": list(normalize.mean), "std": list(normalize.std),
            "channels_last": normalize.channels_last,
        },
        "activations": describe_inputs(model.network),
        "plan": {"average_bits": average_bits, "budget": str(recipe.budget)},
        "recipe": recipe.to_dict() | {"demo": recipe.demo},
        "audit": {
            label: [round(metric.value, 5), round(metric.low, 5), round(metric.high, 5)]
            for label, metric in audited.metrics.items()
            if metric.value == metric.value
        },
    }  # fmt: skip


def default_runs() -> Path:
    """FAIRQUANT_RUNS, or runs/ here."""
    import os

    return Path(os.environ.get("FAIRQUANT_RUNS", "runs"))
