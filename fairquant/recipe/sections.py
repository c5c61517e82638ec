"""The plain sections of a recipe: a frozen dataclass each, whose fields are the section's keys and check their own ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def _positive(owner: object, *names: str) -> None:
    for name in names:
        if not getattr(owner, name) > 0:
            raise ValueError(f"{name}: must be positive, got {getattr(owner, name)!r}")


def _not_negative(owner: object, *names: str) -> None:
    for name in names:
        if getattr(owner, name) < 0:
            raise ValueError(f"{name}: must not be negative, got {getattr(owner, name)!r}")


@dataclass(frozen=True)
class ModelSettings:
    """name: any timm name. weights: a local .safetensors file (or .pt / .pth, read with weights_only) with timm's
    parameter names, taken in place of pretrained: true; a head of another size is replaced. options: keywords of
    timm.create_model."""

    name: str = "resnet18"
    pretrained: bool = False
    weights: str | None = None
    image_size: int = 224
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image_size < 16:
            raise ValueError(f"image_size: must be at least 16, got {self.image_size!r}")


@dataclass(frozen=True)
class BudgetSettings:
    """What the result never exceeds. average_bits: bits per quantized weight, null for none. size: bytes of the whole
    file, such as 2.5MB. bops: bit operations of one image, such as 12G. latency: of the quantized layers, such as 3ms, by
    the times in the file latency_table. The last two stand in place of average_bits and size."""

    average_bits: float | None = 4.0
    size: str | None = None
    bops: str | None = None
    latency: str | None = None
    latency_table: str | None = None

    def __post_init__(self) -> None:
        if self.average_bits is not None and not 0 < self.average_bits <= 8:
            raise ValueError(f"average_bits: must be in (0, 8], got {self.average_bits!r}")
        kinds = (("size", self.size, SIZES), ("bops", self.bops, COUNTS), ("latency", self.latency, TIMES))
        for name, value, units in kinds:
            if value is not None and quantity(value, units) is None:
                raise ValueError(f"{name}: must be a number with one of {', '.join(units)}, got {value!r}")
        if self.bops is not None and self.latency is not None:
            raise ValueError("bops: a plan is held to one kind of cost. Leave bops or latency away")
        for name in ("bops", "latency"):
            if getattr(self, name) is not None and (self.average_bits is not None or self.size is not None):
                raise ValueError(
                    f"{name}: a plan is held to one kind of cost. Set average_bits: null and leave size away"
                )
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
    pin: layer pattern to bits."""

    units: Literal["channel", "tensor"] = "channel"
    choices: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8)
    keep: tuple[str, ...] = ()
    pin: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.choices or min(self.choices) < 0 or max(self.choices) > 8:
            raise ValueError(f"choices: must be whole numbers within 0..8, got {list(self.choices)!r}")
        object.__setattr__(self, "choices", tuple(sorted(set(self.choices))))
        for pattern, bits in self.pin.items():
            if not 0 <= bits <= 8:
                raise ValueError(f"pin: {pattern!r}: bits must be within 0..8, got {bits!r}")


@dataclass(frozen=True)
class ActivationSettings:
    """bits: of the inputs of quantized layers, their steps learnt in training; null: activations stay in float. first: bits
    of the first layer's input, the image."""

    bits: int | None = None
    first: int = 8

    def __post_init__(self) -> None:
        for name, bits in (("bits", self.bits), ("first", self.first)):
            if bits is not None and not 2 <= bits <= 8:
                raise ValueError(f"{name}: must be within 2..8, got {bits!r}")


@dataclass(frozen=True)
class CalibrationSettings:
    """images: drawn from train, equally many of every group as far as they last; batch_size: of the importance pass;
    probe_images: of these, used by allocators that measure the loss of many plans (impq, fmpq)."""

    images: int = 1024
    batch_size: int = 64
    probe_images: int = 128

    def __post_init__(self) -> None:
        _positive(self, "images", "batch_size", "probe_images")


@dataclass(frozen=True)
class EarlyStopping:
    """Keep the epoch that is best on validation; stop after `patience` epochs without a better one."""

    metric: Literal["accuracy", "balanced-accuracy", "worst-group-accuracy", "group-mean-accuracy"] = "accuracy"
    patience: int = 10

    def __post_init__(self) -> None:
        _positive(self, "patience")


@dataclass(frozen=True)
class TrainSettings:
    """One training. learning_rate applies to weights; bits and dead zones learn at learning_rate *
    bit_learning_rate_scale, and with adamw only as far as their mean gradient exceeds bit_confidence standard errors.

    settle_after: share of the epochs after which learnt bits are projected onto the budget and frozen, so that the
    weights adapt to what ships. post_training: quantize without any training.
    sampler: how images are drawn; balanced ones draw with replacement. running_group_losses: momentum of the group
    losses that fairness regularizers see (0: each batch by itself); helps where small groups are missing from batches.
    rounds: in each, a further 1/rounds of the quantized units, least important first, keeps its weights while the others
    train on.
    batch_norm: re-estimate the running statistics on calibration images once the model is quantized.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    step_epochs: int = 160
    step_factor: float = 0.1
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    class_balanced: bool = False
    augment: Literal["none", "flips", "standard", "autoaugment"] = "standard"
    early_stopping: EarlyStopping | None = None
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    channels_last: bool = False
    workers: int | None = None
    checkpoint_minutes: float = 10.0
    bit_learning_rate_scale: float = 100.0
    bit_confidence: float = 2.0
    settle_after: float = 0.6
    post_training: bool = False
    rounds: int = 1
    sampler: Literal["uniform", "group-balanced", "group-class-balanced"] = "uniform"
    running_group_losses: float = 0.0
    batch_norm: Literal["as-trained", "re-estimate", "re-estimate-group-balanced"] = "as-trained"

    def __post_init__(self) -> None:
        _positive(self, "batch_size", "learning_rate", "step_epochs", "step_factor", "checkpoint_minutes",
                  "bit_learning_rate_scale", "rounds")  # fmt: skip
        _not_negative(self, "epochs", "weight_decay", "momentum", "warmup_epochs", "bit_confidence")
        if self.clip_norm is not None:
            _positive(self, "clip_norm")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing: must be in [0, 1), got {self.label_smoothing!r}")
        if not 0 <= self.running_group_losses < 1:
            raise ValueError(f"running_group_losses: must be in [0, 1), got {self.running_group_losses!r}")
        if not 0 < self.settle_after <= 1:
            raise ValueError(f"settle_after: must be in (0, 1], got {self.settle_after!r}")


@dataclass(frozen=True)
class TrackingSettings:
    """mlflow: the tracking store, or null for none. experiment: its name there (null: the recipe's)."""

    mlflow: str | None = "sqlite:///mlflow.db"
    experiment: str | None = None


#: Section name to class, for the sections that are not roles.
