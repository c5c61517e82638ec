"""The training loop: cross-entropy plus penalties, over weights and, where they are learned, bits.

Every step draws its random numbers from (seed, epoch, step) alone; a checkpoint holds model, optimizer, penalties'
memory and position, so that a training killed at any moment resumes to the same result.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fairquant.artifact.finite import finite_problems, listed
from fairquant.bits.attach import Attachment
from fairquant.data.loading import TrainingBatches
from fairquant.data.ranks import is_leader
from fairquant.errors import NotFinite, TrainingDiverged
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import TrainSettings
from fairquant.roles import BitPlan, Regularizer, Split
from fairquant.signals import Postponed
from fairquant.training.batch_norm import check_batch
from fairquant.training.checkpoints import Content, load_checkpoint, put_aside, save_checkpoint
from fairquant.training.devices import default_workers
from fairquant.training.distributed import backward, broadcast_state
from fairquant.training.model import Model
from fairquant.training.objective import Objective
from fairquant.training.optimizer import clipped_together, make_optimizer, rate_factor
from fairquant.training.predict import predict
from fairquant.training.selection import Measures, Selection
from fairquant.training.techniques import Techniques

Values = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What a training needs besides its settings. on_step(done, total) and on_epoch(epoch, values) report progress,
    on_resume(epochs, steps) what an earlier process had done.

    teacher: the full-precision network, for regularizers that need its logits. parts: names of the groups of `train`, where
    they are not those of the model (see `fairquant.data.protection`). measures: what is measured on validation after each epoch.
    replan: makes a plan for the weights as they are, for `train.replan`. made_for: a digest of all that the training depends on; a
    checkpoint of another is not resumed.
    """

    model: Model
    train: Split
    validation: Split
    seed: int
    checkpoint: Path | None
    attachment: Attachment | None = None
    replan: Callable[[], BitPlan] | None = None
    regularizers: Sequence[Component[Regularizer]] = ()
    teacher: nn.Module | None = None
    parts: tuple[str, ...] | None = None
    made_for: str = ""
    measures: Measures = field(default_factory=Measures)
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[int, Values], None] = lambda epoch, values: None
    on_resume: Callable[[int, int], None] = lambda epochs, steps: None


def train(trainer: Trainer, settings: TrainSettings) -> list[Values]:
    """Train for the settings' epochs, resuming from the checkpoint if there is one. Returns each epoch's values.

    With early stopping the model ends at its best epoch; learned bits are projected onto the budget on the way.
    Raises TrainingDiverged where the loss is no longer finite.
    """
    return _Training(trainer, settings).run()


class _Training:
    """The state of one training."""

    def __init__(self, trainer: Trainer, settings: TrainSettings) -> None:
        self.of, self.settings = trainer, settings
        self.network, self.device = trainer.model.network, trainer.model.device
        check_batch(self.network, min(settings.batch_size, len(trainer.train)))
        workers = default_workers(self.device) if settings.workers is None else settings.workers
        self.batches = TrainingBatches(
            trainer.train, settings.batch_size, settings.augment, trainer.seed, workers, settings.sampler
        )
        self.objective = Objective(
            model=trainer.model, train=trainer.train, settings=settings, regularizers=trainer.regularizers, teacher=trainer.teacher,
            group_count=len(trainer.model.group_names if trainer.parts is None else trainer.parts),
        )  # fmt: skip
        self.optimizer = make_optimizer(self.network, settings)
        self.history: list[Values] = []
        self.selection = Selection(settings, trainer.measures)
        self.best_state: dict[str, Tensor] | None = None
        self.epoch, self.step, self.sums = 0, 0, torch.zeros(3, dtype=torch.float64)
        self.bits_frozen = trainer.attachment is None or not trainer.attachment.learns_bits
        self.techniques = Techniques(self.network, settings, trainer.attachment, trainer.replan)
        self.saved_at = time.monotonic()
        self.signals = Postponed()

    @property
    def total_steps(self) -> int:
        return self.settings.epochs * len(self.batches)

    def run(self) -> list[Values]:
        self._resume()
        self._maybe_freeze_bits()
        with self.signals:
            while self.epoch < self.settings.epochs and not self.selection.out_of_patience(self.epoch):
                self._run_epoch()
        if self.best_state is not None:
            self.network.load_state_dict(self.best_state)
        elif self.epoch:
            self.techniques.keep_average()
        broadcast_state(self.network)
        if problems := finite_problems(self.network):
            raise self._diverged(f"epoch {self.epoch} left weights that are no numbers: {listed(problems)}")
        return self.history

    def _run_epoch(self) -> None:
        self.network.train()
        self.techniques.begin_epoch(self.epoch, self.step)
        for raw in self.batches.epoch(self.epoch, skip=self.step):
            torch.manual_seed(_mix(self.of.seed, self.epoch, self.step))
            images = self.of.model.normalization(raw.images.to(self.device, non_blocking=True))
            labels, groups = raw.labels.to(self.device), raw.groups.to(self.device)
            self._set_rates(self.epoch * len(self.batches) + self.step)
            self._one_step(images, labels, groups)
            self.step += 1
            self.of.on_step(self.epoch * len(self.batches) + self.step, self.total_steps)
            if self.signals.waiting or time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes:
                self._save()
                self.signals.deliver()
        with self.techniques.averaged():
            values = self._measure()
            self.history.append(values)
            self._remember_best(values)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, torch.zeros(3, dtype=torch.float64)
        self._maybe_freeze_bits()
        self._save()
        self.of.on_epoch(self.epoch, values)

    def _one_step(self, images: Tensor, labels: Tensor, groups: Tensor) -> None:
        """images [B, 3, H, W] (this rank's slice), labels, groups [B] (the whole batch)."""
        learning = self.of.attachment if not self.bits_frozen else None
        task, penalties, logits = self.objective.of(images, labels, groups, learning)
        penalty = sum((value for _, value in penalties), task.new_zeros(()))
        loss = task + penalty
        if not bool(torch.isfinite(loss)):
            raise self._no_number(task, penalties)
        self.optimizer.zero_grad(set_to_none=True)
        backward(loss, self.network)
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(clipped_together(self.network), self.settings.clip_norm)
        self.optimizer.step()
        self.techniques.after_step()
        right = (logits.detach().argmax(1) == labels).double().mean()
        self.sums += torch.stack([task.detach().double().cpu(), penalty.detach().double().cpu(), right.cpu()])

    def _diverged(self, what: str) -> TrainingDiverged:
        kept = self.of.checkpoint is not None and self.of.checkpoint.exists()
        hint = f" The last good checkpoint stays in {self.of.checkpoint.parent}." if kept and self.of.checkpoint else ""
        return TrainingDiverged(f"{what}.{hint} Lower the learning_rate, set clip_norm, or use precision: fp32")

    def _no_number(self, task: Tensor, penalties: Sequence[tuple[str, Tensor]]) -> TrainingDiverged:
        """What to say where the loss is not finite."""
        parts = [("the loss", task), *((f"the penalty of regularizer {label!r}", value) for label, value in penalties)]
        name, value = next(((n, v) for n, v in parts if not bool(torch.isfinite(v))), ("the sum of penalties", task))
        return self._diverged(f"{name} is {value.item()} in epoch {self.epoch + 1}, step {self.step + 1}")

    def _measure(self) -> Values:
        """Losses of the epoch and validation metrics."""
        mean = (self.sums / max(self.step, 1)).tolist()
        values = {"loss": mean[0], "penalty": mean[1], "train-accuracy": mean[2]}
        if len(self.of.validation):
            try:
                values |= self.of.measures.of(predict(self.of.model, self.of.validation))
            except NotFinite as error:
                raise self._diverged(f"after epoch {self.epoch + 1}: {error}") from error
            self.selection.check(values)
        if self.of.attachment is not None:
            values["average-bits"] = self.of.attachment.average()
        return values

    def _remember_best(self, values: Values) -> None:
        final = self.bits_frozen and not self.techniques.changes_widths(self.epoch)
        if final and self.selection.is_best(values, self.epoch):
            self.best_state = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _maybe_freeze_bits(self) -> None:
        if not self.bits_frozen and self.epoch >= math.ceil(self.settings.freeze_bits_after * self.settings.epochs):
            assert self.of.attachment is not None
            self.of.attachment.project_to_budget()
            self.bits_frozen = True

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
                "model": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "memories": self.objective.memories.state_dict(), "techniques": self.techniques.state_dict(),
                "history": self.history, "best": self.selection.state(),
                "best_state": self.best_state, "epoch": self.epoch, "step": self.step, "sums": self.sums,
                "bits_frozen": self.bits_frozen,
            },
            self.of.made_for,
        )  # fmt: skip

    def _resume(self) -> None:
        path = self.of.checkpoint
        saved = None if path is None else load_checkpoint(path, self.device, self.of.made_for)
        if path is None or saved is None:
            return
        begun = copy.deepcopy((self.network.state_dict(), self.optimizer.state_dict()))
        try:
            self._restore(saved)
            self.of.on_resume(self.epoch, self.step)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):  # of another form: another version's
            put_aside(path)
            self.network.load_state_dict(begun[0])
            self.optimizer.load_state_dict(begun[1])
            self.objective.forget()
            self.selection = Selection(self.settings, self.of.measures)
            self.techniques = Techniques(self.network, self.settings, self.of.attachment, self.of.replan)

    def _restore(self, saved: Content) -> None:
        """Go on where a checkpoint was made."""
        history, best_state, epoch, step = (saved[key] for key in ("history", "best_state", "epoch", "step"))
        sums, bits_frozen = saved["sums"].cpu(), bool(saved["bits_frozen"])
        self.network.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.objective.memories.load_state_dict(saved["memories"])
        self.techniques.load_state_dict(saved["techniques"])
        self.selection.load(saved["best"])
        self.history, self.best_state, self.epoch, self.step, self.sums = history, best_state, epoch, step, sums
        if bits_frozen and not self.bits_frozen and self.of.attachment is not None:
            self.of.attachment.project_to_budget()  # restored bits are whole already: projecting again only freezes them
        self.bits_frozen = bits_frozen


def _mix(seed: int, epoch: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
