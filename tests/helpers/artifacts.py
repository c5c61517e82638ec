"""Artifacts of untrained models: every width in them, ready within a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from fairquant.artifact.save import save_artifact
from fairquant.bits import attach, find_layers
from fairquant.bits.problem import BitChoices, Budget
from fairquant.export.runtime import open_runtime
from fairquant.roles import BitPlan

#: Of a model that no artifact can name, such as `helpers.models.Strange`.
METADATA = {
    "architecture": {"source": "module", "class": "Strange"}, "classes": ["a", "b", "c"], "recipe": {}, "audit": {},
    "preprocessing": {"image_size": 8, "mean": [0, 0, 0], "std": [1, 1, 1], "channels_last": False}, "plan": {},
}  # fmt: skip
NAME, SIZE, CLASSES = "resnet10t", 32, ["a", "b", "c"]


def quantized(model: nn.Module, quantizer: object, seed: int = 0, keep: tuple[str, ...] = ()):
    """Quantizers on the model's layers, at bits drawn from 0 to 8."""
    torch.manual_seed(seed)
    layers = find_layers(model, "channel", keep)
    plan = BitPlan({l.name: torch.randint(9, (l.units,)) for l in layers}, {l.name: l.unit_size for l in layers})
    attachment = attach(layers, quantizer, plan, BitChoices(tuple(range(9))), Budget(8.0))
    attachment.project_to_budget()
    return attachment


def saved(tmp_path: Path, model: nn.Module, quantizer: object, **options: object):
    """The model as an artifact: its path, the quantizers, and what `save_artifact` says of the file."""
    attachment = quantized(model, quantizer, **options)
    path = tmp_path / "model.safetensors"
    return path, attachment, save_artifact(path, model, attachment.layers, attachment.encode(), METADATA)


def build(path: Path, quantizer: object, name: str = NAME, size: int = SIZE, **options: object) -> Path:
    """An artifact of an untrained timm model with all widths in it."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=len(CLASSES), **options).eval()
    attachment = quantized(model, quantizer)
    weights = attachment.encode()
    attachment.detach()
    metadata = {
        "architecture": {"source": "timm", "name": name, "image_size": size, "options": options}, "classes": CLASSES,
        "preprocessing": {"image_size": size, "mean": [0.5] * 3, "std": [0.2] * 3, "channels_last": False},
        "recipe": {"seed": 0, "dataset": {"name": "isic2019", "root": "data"}}, "plan": {}, "audit": {}, "groups": ["x", "y"],
    }  # fmt: skip
    save_artifact(path, model, attachment.layers, weights, metadata)
    return path


def export(source: Path) -> Path:
    """The artifact as an ONNX file beside it."""
    from fairquant.export.onnx import export_onnx
    from fairquant.export.ranges import Calibration

    out = source.with_suffix(".onnx")
    size = open_runtime(source).metadata["preprocessing"]["image_size"]
    export_onnx(source, out, calibration=Calibration([random_images(size, 4)]))
    return out


def random_images(size: int, count: int = 6) -> np.ndarray:
    """Normalised images [count, 3, size, size] of noise."""
    return np.random.default_rng(0).normal(size=(count, 3, size, size)).astype(np.float32)


def has_vnni() -> bool:
    """Whether this processor multiplies int8 exactly: without VNNI or AMX, ONNX Runtime's products saturate at 16 bits."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"))
