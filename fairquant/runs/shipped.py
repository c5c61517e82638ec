"""The file that ships, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping

from fairquant.artifact.save import save_artifact
from fairquant.audit.evaluate import Audit
from fairquant.bits.activations import describe_inputs
from fairquant.recipe.events import ArtifactReport
from fairquant.recipe.schema import Recipe, plain_fields
from fairquant.recipe.shipped import shipped_recipe
from fairquant.roles import Layer, OperatingPoint, QuantizedWeight
from fairquant.roles.dataset import Intensity
from fairquant.runs.folder import Run
from fairquant.runs.results import Quantized
from fairquant.training.model import Model


def write_artifact(
    run: Run, name: str, model: Model, quantized: Quantized | None, metadata: Mapping[str, object]
) -> ArtifactReport:
    """The file that ships, in the run's folder."""
    layers: tuple[Layer, ...] = () if quantized is None else quantized.layers
    weights: Mapping[str, QuantizedWeight] = {} if quantized is None else quantized.weights
    return save_artifact(run.folder / name, model.network, layers, weights, metadata)


def describe(
    recipe: Recipe, model: Model, average_bits: float, test_audit: Audit | None, operating: OperatingPoint | None,
    intensity: Intensity,
) -> dict[str, object]:  # fmt: skip
    """The artifact's metadata."""
    normalization = model.normalization
    return {
        "architecture": model.architecture,
        "classes": list(model.class_names),
        "groups": list(model.group_names),
        "preprocessing": {
            "image_size": model.architecture.get("image_shape", recipe.model.image_size),
            "mean": list(normalization.mean), "std": list(normalization.std),
            "channels_last": normalization.channels_last, "intensity": intensity,
            "prepared_by_caller": model.architecture.get("source") == "module",
        },
        "activations": describe_inputs(model.network),
        "plan": {"average_bits": average_bits, "budget": str(recipe.budget)},
        "recipe": shipped_recipe(recipe, average_bits),
        "recipe_digest": recipe.digest(),
        "audit": {
            label: [round(metric.value, 5), round(metric.low, 5), round(metric.high, 5)]
            for label, metric in (test_audit.metrics if test_audit is not None else {}).items()
            if metric.value == metric.value
        },
        "operating_point": None if operating is None or recipe.operating_point is None else {
            **plain_fields(recipe.operating_point), "threshold": operating.threshold,
        },
    }  # fmt: skip
