"""What follows the plan: training with the quantizers attached, and batch norm statistics of the quantized network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fairquant.bits import Attachment
from fairquant.data.batching import batches
from fairquant.data.protection import protect
from fairquant.recipe.schema import Recipe
from fairquant.roles import BitPlan, Splits
from fairquant.runs.folder import Run
from fairquant.runs.identity import digest_of
from fairquant.training.batch_norm import draw_train_subset, reestimate_batch_norm
from fairquant.training.loop import Trainer, train
from fairquant.training.model import Model
from fairquant.training.predict import predict
from fairquant.training.selection import Measures

#: Of the quantized training, in a run's folder.
CHECKPOINT = Path("checkpoints") / "train.pt"


def train_quantized(
    recipe: Recipe, run: Run, splits: Splits, model: Model, baseline: Model, attachment: Attachment | None,
    replan: Callable[[], BitPlan] | None = None,
) -> None:  # fmt: skip
    """Weights, and bits where they are learned, under the method's regularizers (fp32: the same training, no quantizers)."""
    parts = protect(splits, recipe.protect)
    trainer = Trainer(
        model=model, train=parts.train, parts=parts.group_names, validation=splits.validation, seed=recipe.seed + 1,
        checkpoint=run.folder / CHECKPOINT, made_for=digest_of(run.identity),
        attachment=attachment, replan=replan,
        regularizers=recipe.regularizers, teacher=baseline.network,
        measures=measures(recipe, splits, baseline), on_step=run.steps("training"),
        on_epoch=lambda epoch, values: run.epoch("quantized", epoch, values),
        on_resume=lambda epoch, step: run.tell(f"training: resumed after {epoch} epochs and {step} steps"),
    )  # fmt: skip
    train(trainer, recipe.train)


def measures(recipe: Recipe, splits: Splits, baseline: Model) -> Measures:
    """What chooses the epoch that is kept; the full-precision model's predictions beside it, for metrics that compare."""
    if not recipe.selection:
        return Measures()
    reference = predict(baseline, splits.validation) if len(splits.validation) else None
    return Measures(metrics=recipe.selection, reference=reference, operating=recipe.operating_point)


def repair_batch_norm(recipe: Recipe, splits: Splits, model: Model) -> None:
    """Re-estimate batch norm statistics on training images."""
    settings, balanced = recipe.calibration, recipe.train.batch_norm.endswith("balanced")
    images = draw_train_subset(splits.train, settings.images, len(splits.group_names), recipe.seed, balanced)
    stream = batches(images, settings.batch_size, model.normalization, model.device)
    reestimate_batch_norm(model.network, stream)
