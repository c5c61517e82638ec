"""What a step of training minimises: the loss on the labels, and the penalties of the regularizers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits.attach import Attachment
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import TrainSettings
from fairquant.roles import KeepsMemory, Regularizer, Split, Step
from fairquant.roles.regularizer import inputs_needed
from fairquant.training.devices import autocast
from fairquant.training.distributed import gather, sync_batch_norm
from fairquant.training.model import Model
from fairquant.training.observe import RunningLosses, capture_features, penalty_of

RUNNING_LOSSES = "running group losses"


class Objective:
    """memories: what regularizers keep over steps, and checkpoints with them, by their names."""

    memories: nn.ModuleDict

    def __init__(
        self, *, model: Model, train: Split, settings: TrainSettings, regularizers: Sequence[Component[Regularizer]],
        teacher: nn.Module | None, group_count: int,
    ) -> None:  # fmt: skip
        self.network, self.device, self.settings = model.network, model.device, settings
        self.regularizers, self.group_count = regularizers, group_count
        self.needs = frozenset[str]().union(*(inputs_needed(each.value) for each in regularizers))
        self.teacher = copy.deepcopy(teacher).eval() if "teacher" in self.needs and teacher else None
        self.class_weights = class_weights(train, len(model.class_names), settings).to(self.device)
        self.forget()

    def forget(self) -> None:
        """Begin with memories in which nothing is yet."""
        self.memories = nn.ModuleDict()
        if self.settings.running_group_losses > 0:
            self.memories[RUNNING_LOSSES] = RunningLosses(self.group_count).to(self.device)
        for component in self.regularizers:
            if isinstance(component.value, KeepsMemory):
                self.memories[component.name] = component.value.memory().to(self.device)

    def of(
        self, images: Tensor, labels: Tensor, groups: Tensor, learning: Attachment | None
    ) -> tuple[Tensor, list[tuple[str, Tensor]], Tensor]:
        """The loss on the labels [], each regularizer's label and penalty [], and the logits [B, C].

        images [B, 3, H, W] (this rank's slice), labels, groups [B] (the whole batch); learning: quantizers whose bits are learned.
        """
        step = self._forward(images, labels, groups, learning)
        return self.settings.label_weight * step.losses.mean(), self._penalties(step), step.logits

    def _forward(self, images: Tensor, labels: Tensor, groups: Tensor, learning: Attachment | None) -> Step:
        """Losses and all that the regularizers asked for, over the whole batch."""
        settings, count = self.settings, len(labels)
        with (
            autocast(self.device, settings.precision),
            capture_features(self.network if "features" in self.needs else None) as seen,
            sync_batch_norm(),
        ):
            logits = self.network(images)
        logits = gather(logits.float(), count)
        with torch.no_grad(), autocast(self.device, settings.precision):
            teacher = gather(self.teacher(images).float(), count) if self.teacher is not None else None
        losses = F.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=settings.label_smoothing, reduction="none"
        )
        return Step(
            losses=losses, logits=logits, labels=labels, groups=groups, group_count=self.group_count,
            bits=learning.bit_state() if learning is not None else None,
            features=gather(seen[-1].float(), count) if seen else None, teacher=teacher,
        )  # fmt: skip

    def _penalties(self, step: Step) -> list[tuple[str, Tensor]]:
        """Each regularizer's label and penalty [], with its own memory."""
        memories = dict(self.memories.items())
        if isinstance(running := memories.get(RUNNING_LOSSES), RunningLosses):
            step = replace(step, running=running.update(step, self.settings.running_group_losses))
        return [
            (each.label, penalty_of(each, replace(step, memory=memories.get(each.name)))) for each in self.regularizers
        ]


def class_weights(train: Split, classes: int, settings: TrainSettings) -> Tensor:
    """Inverse class frequency with mean 1 over images, or ones: [C]."""
    if not settings.class_balanced:
        return torch.ones(classes)
    counts = torch.bincount(torch.from_numpy(train.labels), minlength=classes).float()
    weights = torch.where(counts > 0, counts.sum() / counts.clamp_min(1), torch.zeros(classes))
    return weights / (weights * counts).sum() * counts.sum()
