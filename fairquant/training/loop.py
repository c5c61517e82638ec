"""The training loop: cross-entropy plus penalties, over weights and, where they are learnt, bits.

Every step draws its random numbers from (seed, epoch, step) alone; a checkpoint holds model, optimizer, penalties'
memory and place, so that a training killed at any moment goes on to the same result.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits.attach import Attachment
from fairquant.data.loading import TrainingBatches
from fairquant.data.transforms import Normalization
from fairquant.errors import TrainingDiverged
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import TrainSettings
from fairquant.roles import Split, Step
from fairquant.training.checkpoints import load_checkpoint, save_checkpoint
from fairquant.training.devices import autocast, default_workers
from fairquant.training.distributed import backward, gather, is_leader, share_state, whole_batch_norm
from fairquant.training.observe import RunningLosses, seen_by_classifier
from fairquant.training.optimizer import clipped_together, make_optimizer, rate_factor
from fairquant.training.predict import predict
from fairquant.training.rounds import Frozen, freeze_units, frozen_share

Values = dict[str, float]


@dataclass(frozen=True)
class Trainer:
    """What a training needs besides its settings. on_step(done, total) and on_epoch(epoch, values) report progress."""

    model: nn.Module
    train: Split
    validation: Split
    names: tuple[tuple[str, ...], tuple[str, ...]]
    normalize: Normalization
    device: torch.device
    seed: int
    checkpoint: Path | None
    attachment: Attachment | None = None
    regularizers: Sequence[Component] = ()
    teacher: nn.Module | None = None  # the full-precision model, for regularizers that need its answers
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[int, Values], None] = lambda epoch, values: None


def train(trainer: Trainer, settings: TrainSettings) -> list[Values]:
    """Train for the settings' epochs, going on from the checkpoint if there is one. Returns each epoch's values.

    With early stopping the model ends at its best epoch; learnt bits are settled within the budget on the way.
    Raises TrainingDiverged where the loss is no longer finite.
    """
    return _Training(trainer, settings).run()


class _Training:
    """One training's moving parts."""

    def __init__(self, trainer: Trainer, settings: TrainSettings) -> None:
        self.of, self.settings = trainer, settings
        workers = default_workers(trainer.device) if settings.workers is None else settings.workers
        self.batches = TrainingBatches(
            trainer.train, settings.batch_size, settings.augment, trainer.seed, workers, settings.sampler
        )
        self.needs = frozenset().union(*(getattr(c.value, "needs", ()) for c in trainer.regularizers))
        self.teacher = copy.deepcopy(trainer.teacher).eval() if "teacher" in self.needs and trainer.teacher else None
        self.memories = nn.ModuleDict()
        if settings.running_group_losses > 0:
            self.memories["running group losses"] = RunningLosses(len(trainer.names[0])).to(trainer.device)
        for component in trainer.regularizers:
            if hasattr(component.value, "memory"):
                self.memories[component.name] = component.value.memory().to(trainer.device)
        self.optimizer = make_optimizer(trainer.model, settings)
        self.class_weights = _class_weights(trainer.train, len(trainer.names[1]), settings).to(trainer.device)
        self.history: list[Values] = []
        self.best: tuple[float, int] = (-math.inf, -1)
        self.best_state: dict[str, Tensor] | None = None
        self.epoch, self.step, self.sums = 0, 0, torch.zeros(3, dtype=torch.float64)
        self.settled = trainer.attachment is None or not trainer.attachment.learns_bits
        self.frozen: list[Frozen] = []
        self.saved_at = time.monotonic()

    @property
    def total_steps(self) -> int:
        return self.settings.epochs * len(self.batches)

    def run(self) -> list[Values]:
        self._resume()
        self._maybe_settle()
        while self.epoch < self.settings.epochs and not self._out_of_patience():
            self._run_epoch()
        if self.best_state is not None and self.settings.early_stopping is not None:
            self.of.model.load_state_dict(self.best_state)
        share_state(self.of.model)
        return self.history

    def _run_epoch(self) -> None:
        self.of.model.train()
        share = frozen_share(self.settings, self.epoch)
        if share > 0 and self.of.attachment is not None and not self.frozen:
            self.frozen = freeze_units(self.of.attachment, share)
        for raw in self.batches.epoch(self.epoch, skip=self.step):
            torch.manual_seed(_mix(self.of.seed, self.epoch, self.step))
            images = self.of.normalize(raw.images.to(self.of.device, non_blocking=True))
            labels, groups = raw.labels.to(self.of.device), raw.groups.to(self.of.device)
            self._set_rates(self.epoch * len(self.batches) + self.step)
            self._one_step(images, labels, groups)
            self.step += 1
            self.of.on_step(self.epoch * len(self.batches) + self.step, self.total_steps)
            if time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes:
                self._save()
        values = self._measure()
        self.history.append(values)
        self._remember_best(values)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, torch.zeros(3, dtype=torch.float64)
        self.frozen = []
        self._maybe_settle()
        self._save()
        self.of.on_epoch(self.epoch, values)

    def _one_step(self, images: Tensor, labels: Tensor, groups: Tensor) -> None:
        settings = self.settings
        with (
            autocast(self.of.device, settings.precision),
            seen_by_classifier(self.of.model if "features" in self.needs else None) as seen,
            whole_batch_norm(),
        ):
            logits = self.of.model(images)
        count = len(labels)
        logits = gather(logits.float(), count)
        with torch.no_grad(), autocast(self.of.device, settings.precision):
            teacher = gather(self.teacher(images).float(), count) if self.teacher is not None else None
        losses = F.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=settings.label_smoothing, reduction="none"
        )
        task = losses.mean()
        state = self.of.attachment.bit_state() if self.of.attachment is not None and not self.settled else None
        penalty = task.new_zeros(())
        step = Step(
            losses, logits, labels, groups, len(self.of.names[0]), state,
            features=gather(seen[-1].float(), count) if seen else None, teacher=teacher,
        )  # fmt: skip
        if "running group losses" in self.memories:
            running = self.memories["running group losses"]
            assert isinstance(running, RunningLosses)
            step = replace(step, running=running.update(step, settings.running_group_losses))
        for component in self.of.regularizers:
            memory = self.memories[component.name] if component.name in self.memories else None  # noqa: SIM401
            penalty = penalty + component.value.penalty(replace(step, memory=memory))
        loss = task + penalty
        if not bool(torch.isfinite(loss)):
            kept = f" The last good checkpoint stays in {self.of.checkpoint.parent}." if self.of.checkpoint else ""
            raise TrainingDiverged(
                f"the loss is {loss.item()} in epoch {self.epoch + 1}, step {self.step + 1}.{kept} "
                "Lower the learning_rate, set clip_norm, or use precision: fp32"
            )
        self.optimizer.zero_grad(set_to_none=True)
        backward(loss, self.of.model)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(clipped_together(self.of.model), settings.clip_norm)
        self.optimizer.step()
        for rows in self.frozen:
            rows.restore()
        right = (logits.detach().argmax(1) == labels).double().mean()
        self.sums += torch.stack([task.detach().double().cpu(), penalty.detach().double().cpu(), right.cpu()])

    def _measure(self) -> Values:
        """Losses of the epoch and validation metrics."""
        mean = (self.sums / max(self.step, 1)).tolist()
        values = {"loss": mean[0], "penalty": mean[1], "train-accuracy": mean[2]}
        if len(self.of.validation):
            values |= validation_values(
                predict(self.of.model, self.of.validation, self.of.names, self.of.normalize, self.of.device)
            )
        if self.of.attachment is not None:
            values["average-bits"] = self.of.attachment.average()
        return values

    def _remember_best(self, values: Values) -> None:
        stopping = self.settings.early_stopping
        if stopping is None or not self.settled:
            return
        score = values.get(stopping.metric, math.nan)
        if score > self.best[0]:
            self.best = (score, self.epoch)
            self.best_state = {name: value.detach().clone() for name, value in self.of.model.state_dict().items()}

    def _out_of_patience(self) -> bool:
        stopping = self.settings.early_stopping
        return stopping is not None and self.best[1] >= 0 and self.epoch - 1 - self.best[1] >= stopping.patience

    def _maybe_settle(self) -> None:
        if not self.settled and self.epoch >= math.ceil(self.settings.settle_after * self.settings.epochs):
            assert self.of.attachment is not None
            self.of.attachment.settle()
            self.settled = True

    def _set_rates(self, step: int) -> None:
        factor = rate_factor(self.settings, step, len(self.batches))
        for group in self.optimizer.param_groups:
            group["lr"] = group["start"] * factor

    def _save(self) -> None:
        self.saved_at = time.monotonic()
        if self.of.checkpoint is None or not is_leader():
            return
        save_checkpoint(
            self.of.checkpoint,
            {
                "model": self.of.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "memories": self.memories.state_dict(), "history": self.history, "best": list(self.best),
                "best_state": self.best_state, "epoch": self.epoch, "step": self.step, "sums": self.sums,
                "settled": self.settled,
            },
        )  # fmt: skip

    def _resume(self) -> None:
        saved = load_checkpoint(self.of.checkpoint, self.of.device) if self.of.checkpoint is not None else None
        if saved is None:
            return
        self.of.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.memories.load_state_dict(saved["memories"])
        self.history, self.best, self.best_state = saved["history"], tuple(saved["best"]), saved["best_state"]
        self.epoch, self.step, self.sums = saved["epoch"], saved["step"], saved["sums"].cpu()
        if saved["settled"] and not self.settled and self.of.attachment is not None:
            self.of.attachment.settle()  # restored bits are whole already: settling again only freezes them
        self.settled = saved["settled"]


def validation_values(predictions: Any) -> Mapping[str, float]:
    """Accuracies on validation, in the plain form that early stopping and progress need."""
    right = predictions.predicted == predictions.labels
    groups = [right[predictions.groups == g].mean() for g in np.unique(predictions.groups)]
    classes = [right[predictions.labels == c].mean() for c in np.unique(predictions.labels)]
    return {
        "accuracy": float(right.mean()),
        "balanced-accuracy": float(np.mean(classes)),
        "worst-group-accuracy": float(min(groups)),
        "group-mean-accuracy": float(np.mean(groups)),
    }


def _class_weights(train: Split, classes: int, settings: TrainSettings) -> Tensor:
    """Inverse class frequency with mean 1 over images, or ones."""
    if not settings.class_balanced:
        return torch.ones(classes)
    counts = torch.bincount(torch.from_numpy(train.labels), minlength=classes).float()
    weights = torch.where(counts > 0, counts.sum() / counts.clamp_min(1), torch.zeros(classes))
    return weights / (weights * counts).sum() * counts.sum()


def _mix(seed: int, epoch: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
