"""The plain sections of a recipe: a frozen dataclass each, whose fields are the section's keys and check their own ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fairquant.addresses import store_problem

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
#: From 0 up to, but without, 1.
BelowOne = Annotated[float, Field(ge=0, lt=1)]
#: Above 0, up to and with 1.
UpToOne = Annotated[float, Field(gt=0, le=1)]
ImageSize = Annotated[int, Field(ge=16)]
ActivationBits = Annotated[int, Field(ge=2, le=8)]
#: For whom a plan and its training work: one of PROTECTED, or names of classes.
Protect = str | tuple[str, ...]
PROTECTED = ("groups", "classes", "cells", "none")
Workers = Annotated[int, Field(ge=0, le=256)]
Rounds = Annotated[int, Field(ge=1, le=1000)]
AverageBits = Annotated[float, Field(gt=0, le=8)]
#: A number with its unit. One without becomes text, for which the section names the units that there are.
Quantity = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """name: any timm name. weights: a local .safetensors file (or .pt / .pth, read with weights_only) with timm's
    parameter names, taken in place of pretrained: true; a head of another size is replaced. options: keywords of
    timm.create_model."""

    name: str = "resnet18"
    pretrained: bool = False
    weights: str | None = None
    image_size: ImageSize = 224
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """What the result never exceeds. average_bits: bits per quantized weight, null for none. size: bytes of the whole
    file, such as 2.5MB. bops: bit operations of one image, such as 12G. latency: of the quantized layers, such as 3ms, by
    the times in the file latency_table. The last two replace average_bits and size."""

    average_bits: AverageBits | None = 4.0
    size: Quantity | None = None
    bops: Quantity | None = None
    latency: Quantity | None = None
    latency_table: str | None = None

    def __post_init__(self) -> None:
        kinds = (("size", self.size, SIZES), ("bops", self.bops, COUNTS), ("latency", self.latency, TIMES))
        for name, value, units in kinds:
            if value is not None and quantity(value, units) is None:
                raise ValueError(f"{name}: must be a number with one of {', '.join(units)}, got {value!r}")
        if self.bops is not None and self.latency is not None:
            raise ValueError("bops: a plan has one kind of cost. Leave out bops or latency")
        for name in ("bops", "latency"):
            if getattr(self, name) is not None and (self.average_bits is not None or self.size is not None):
                raise ValueError(f"{name}: a plan has one kind of cost. Set average_bits: null and leave out size")
        if self.average_bits is None and all(value is None for _, value, _ in kinds):
            raise ValueError("give average_bits, size, bops or latency")
        if (self.latency is None) != (self.latency_table is None):
            raise ValueError("latency: needs latency_table, a file of times, and that needs latency")

    @property
    def bytes(self) -> float | None:
        return None if self.size is None else quantity(self.size, SIZES)

    @property
    def bit_operations(self) -> float | None:
        return None if self.bops is None else quantity(self.bops, COUNTS)

    @property
    def milliseconds(self) -> float | None:
        return None if self.latency is None else quantity(self.latency, TIMES)

    def __str__(self) -> str:
        bits = None if self.average_bits is None else f"{self.average_bits:g} bits"
        return " and ".join(filter(None, [bits, self.size, self.bops and f"{self.bops} BOPs", self.latency]))


SIZES = {"MB": 1e6, "kB": 1e3, "MiB": 2.0**20, "KiB": 2.0**10, "B": 1.0}
COUNTS = {"T": 1e12, "G": 1e9, "M": 1e6}
TIMES = {"ms": 1.0, "us": 1e-3}


def quantity(text: str, units: dict[str, float]) -> float | None:
    """A positive number with its unit, such as 2.5MB; None where it is none."""
    for unit, factor in units.items():
        number = text.strip().removesuffix(unit).strip()
        if text.strip().endswith(unit) and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return float(number) * factor
    return None


@dataclass(frozen=True)
class QuantizeSettings:
    """units: what has one bit width. choices: widths an allocator may use. keep: layer patterns left in full precision;
    pin: layer pattern to bits. fallback: uniform bits of the same budget where, on validation images, they change fewer answers of
    the worst-served group than the allocator's plan does; null: the plan, whatever it does."""

    units: Literal["channel", "tensor"] = "channel"
    choices: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8)
    keep: tuple[str, ...] = ()
    pin: dict[str, int] = field(default_factory=dict)
    fallback: Literal["uniform"] | None = "uniform"

    def __post_init__(self) -> None:
        if not self.choices or min(self.choices) < 0 or max(self.choices) > 8:
            raise ValueError(f"choices: must be whole numbers within 0..8, got {list(self.choices)!r}")
        object.__setattr__(self, "choices", tuple(sorted(set(self.choices))))
        for pattern, bits in self.pin.items():
            if not 0 <= bits <= 8:
                raise ValueError(f"pin: {pattern!r}: bits must be within 0..8, got {bits!r}")


@dataclass(frozen=True)
class ActivationSettings:
    """bits: of the inputs of quantized layers, their steps learned in training; null: activations stay in float. first: bits
    of the first layer's input, the image."""

    bits: ActivationBits | None = None
    first: ActivationBits = 8


@dataclass(frozen=True)
class CalibrationSettings:
    """images: drawn from train, equally many per group where available; batch_size: of the importance pass;
    probe_images: of these, used by allocators that measure the loss of many plans (impq, fmpq)."""

    images: PositiveInt = 1024
    batch_size: PositiveInt = 64
    probe_images: PositiveInt = 128


@dataclass(frozen=True)
class EarlyStopping:
    """Keep the epoch that is best on validation, by any metric; stop after `patience` epochs without a better one."""

    metric: str = "accuracy"
    patience: PositiveInt = 10


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training. learning_rate applies to weights; bits and dead zones learn at learning_rate *
    bit_learning_rate_scale, and with adamw only as far as their mean gradient exceeds bit_confidence standard errors.

    freeze_bits_after: fraction of the epochs after which learned bits are projected onto the budget and frozen, so that the
    weights adapt to what ships. post_training: quantize without any training.
    select: keep the epoch that is best on validation by this metric (null: by that of early stopping, or else the last one).
    sampler: how images are drawn; balanced ones draw with replacement. running_group_losses: momentum of the group
    losses that fairness regularizers see (0: each batch alone); helps where small groups are missing from batches.
    label_weight: of the loss on the labels, beside the penalties of the regularizers; 0 where distillation alone is to teach.
    step_size_learning_rate_scale: of scales that are learned, relative to the weights'.
    weight_average: decay of an exponential moving average of the weights, which is what is measured and kept (0: none).
    freeze_oscillating: freeze a weight that oscillates between two codes in more than this fraction of the steps (0: none).
    narrow_until: fraction of the epochs over which units come down from the most bits to the plan's (0: the plan from the start).
    replan: after each epoch until freeze_bits_after, make the plan anew for the weights as they are.
    rounds: in each, a further 1/rounds of the quantized units, least important first, keeps its weights while the others
    train on.
    batch_norm: re-estimate the running statistics on calibration images once the model is quantized.
    """

    epochs: NonNegativeInt = 10
    batch_size: PositiveInt = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 3e-4
    weight_decay: NonNegativeFloat = 0.01
    momentum: NonNegativeFloat = 0.9
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_epochs: NonNegativeFloat = 0.0
    step_epochs: PositiveInt = 160
    step_factor: PositiveFloat = 0.1
    clip_norm: PositiveFloat | None = 1.0
    label_smoothing: BelowOne = 0.0
    class_balanced: bool = False
    augment: Literal["none", "flips", "standard", "autoaugment"] = "standard"
    early_stopping: EarlyStopping | None = None
    select: str | None = None
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    channels_last: bool = False
    workers: Workers | None = None
    checkpoint_minutes: PositiveFloat = 10.0
    bit_learning_rate_scale: PositiveFloat = 100.0
    bit_confidence: NonNegativeFloat = 2.0
    freeze_bits_after: UpToOne = 0.6
    post_training: bool = False
    label_weight: NonNegativeFloat = 1.0
    step_size_learning_rate_scale: PositiveFloat = 1.0
    weight_average: BelowOne = 0.0
    freeze_oscillating: BelowOne = 0.0
    narrow_until: BelowOne = 0.0
    replan: bool = False
    rounds: Rounds = 1
    sampler: Literal["uniform", "group-balanced", "group-class-balanced"] = "uniform"
    running_group_losses: BelowOne = 0.0
    batch_norm: Literal["as-trained", "re-estimate", "re-estimate-group-balanced"] = "as-trained"


@dataclass(frozen=True, kw_only=True)
class OperatingPointSettings:
    """A decision at a threshold: positive where the probabilities of `classes` sum to at least the threshold, which is
    chosen on validation, for each model by itself, such that its sensitivity (or specificity) is at least the one given.
    partial_from: the partial area under the ROC curve counts sensitivities (specificities) from here on."""

    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    sensitivity: UpToOne | None = None
    specificity: UpToOne | None = None
    partial_from: BelowOne = 0.8

    def __post_init__(self) -> None:
        if (self.sensitivity is None) == (self.specificity is None):
            raise ValueError("give sensitivity or specificity, one of the two")


@dataclass(frozen=True)
class TrackingSettings:
    """mlflow: the tracking store, or null for none. experiment: its name there (null: the recipe's). system_metrics: log
    the use of processor, memory, disk, network and GPU every 10 seconds; needs psutil."""

    mlflow: str | None = "sqlite:///mlflow.db"
    experiment: str | None = None
    system_metrics: bool = False

    def __post_init__(self) -> None:
        if self.mlflow is not None and (problem := store_problem(self.mlflow)):
            raise ValueError(f"mlflow: {problem}")
