"""One run, as the paper tells it.

recipe -> dataset -> model -> full-precision baseline -> importance per group -> reduce -> allocate under the budget
-> attach quantizers -> train weights and bits -> settle within the budget -> predict -> audit -> artifact -> report
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairquant.artifact.save import save_artifact
from fairquant.audit import Audit, audit
from fairquant.baseline import train_baseline
from fairquant.bits import Attachment, find_layers
from fairquant.bits.activations import describe_inputs
from fairquant.data.batching import batches
from fairquant.data.transforms import Normalization
from fairquant.planning import Planning
from fairquant.recipe.schema import Recipe
from fairquant.results import HELD, Results, write_held, write_results
from fairquant.roles import Layer, Splits
from fairquant.runs import Run, versions_key
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
        probes = run.runs / "probes" / versions_key(run.plugins)
        planning = Planning(recipe, splits, network, layers, model.normalize, device, probes)
        with run.stage("importance"):
            importance = planning.importance()
            run.notify("fairquant_importance_done", importance=importance)
        with run.stage("allocation"):
            inputs, operations = planning.start_activations(), planning.operations()
            empty = describe(recipe, splits, model, Audit({}, {}, {}, {}), 0.0)
            attachment, allocation = planning.allocate(importance, operations, inputs, empty)
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
