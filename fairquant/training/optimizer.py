"""The optimizer of a training: weight decay, learning rates and their schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fairquant.recipe.sections import TrainSettings


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Weights with decay; norms and biases without; scales, and bit and dead-zone logits, without and at their own rates."""
    groups: dict[str, list[nn.Parameter]] = {"weights": [], "plain": [], "scales": [], "bits": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        quantizers = "bits" if name.endswith("_logits") else "scales"
        kind = quantizers if is_quantizers(name) else "weights" if parameter.ndim > 1 else "plain"
        groups[kind].append(parameter)
    rate = settings.learning_rate
    parts: list[dict[str, Any]] = [
        {"params": groups["weights"], "start": rate, "lr": rate, "weight_decay": settings.weight_decay},
        {"params": groups["plain"], "start": rate, "lr": rate, "weight_decay": 0.0},
    ]
    if groups["scales"]:
        own_rate = rate * settings.step_size_learning_rate_scale
        parts.append({"params": groups["scales"], "start": own_rate, "lr": own_rate, "weight_decay": 0.0})
    if groups["bits"]:
        own = rate * settings.bit_learning_rate_scale
        bits = {"params": groups["bits"], "start": own, "lr": own, "weight_decay": 0.0}
        parts.append(bits | {"confidence": settings.bit_confidence})
    parts = [group for group in parts if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=rate, momentum=settings.momentum)
    return ConfidentAdamW(parts, lr=rate, fused=True)  # fused: one pass over memory, also on a CPU


class ConfidentAdamW(torch.optim.AdamW):
    """AdamW; a parameter group with `confidence` z > 0 moves only as far as its mean gradient exceeds its noise.

    Adam divides by the size of the gradient, so that a parameter whose gradient is pure noise still moves at the full rate.
    Of noise with standard deviation sqrt(v), Adam's mean m of t steps has the standard error
    e = sqrt(v (1 - b1) / (1 + b1) * (1 + b1^t) / (1 - b1^t)); here the step is Adam's times max(0, 1 - z e / |m|).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        before_step = [
            (group, parameter, parameter.clone())
            for group in self.param_groups if group.get("confidence", 0) > 0
            for parameter in group["params"] if parameter.grad is not None
        ]  # fmt: skip
        loss: float | None = super().step(closure)
        for group, parameter, before in before_step:
            state, (first, second) = self.state[parameter], group["betas"]
            done = state["step"].to(parameter.device)
            mean = state["exp_avg"].abs() / (1 - first**done)
            spread = (state["exp_avg_sq"] / (1 - second**done)).sqrt()
            error = spread * torch.sqrt((1 - first) / (1 + first) * (1 + first**done) / (1 - first**done))
            fraction = (1 - group["confidence"] * error / mean.clamp_min(1e-30)).clamp_min(0)
            parameter.copy_(torch.lerp(before, parameter, fraction))
        return loss


def rate_factor(settings: TrainSettings, step: int, per_epoch: int) -> float:
    """The schedule's factor on the learning rate at a step counted from the training's start."""
    warmup = settings.warmup_epochs * per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "step":
        return float(settings.step_factor ** ((step // per_epoch) // settings.step_epochs))
    if settings.schedule == "cosine":
        fraction = (step - warmup) / max(settings.epochs * per_epoch - warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
    return 1.0


def is_quantizers(name: str) -> bool:
    """Whether a parameter belongs to a quantizer (the weight under it, `original`, does not)."""
    return ".parametrizations." in f".{name}" and not name.endswith(".original")


def clipped_together(model: nn.Module) -> list[nn.Parameter]:
    """Weights are clipped together; quantizer parameters have their own scale and are not."""
    return [p for name, p in model.named_parameters() if p.grad is not None and not is_quantizers(name)]
