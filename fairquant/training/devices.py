"""Where and how precisely to compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairquant.errors import UserError


def choose_device(name: str) -> torch.device:
    """auto: cuda, else mps, else cpu. UserError for one that this machine lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise UserError(f"train.device: this machine has no {name!r}. Available: {there}; 'auto' takes the best")
    return torch.device(name)


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """bf16 for the forward pass where asked for; weights, losses and evaluation stay in fp32.

    auto: bf16 where the device computes it natively, else fp32. On a CPU attention is then computed product by product: torch's
    fused form takes more time to differentiate there than all the rest of a small transformer.
    """
    if precision != "bf16" and not (precision == "auto" and computes_bf16(device)):
        yield
        return
    with (
        torch.autocast(device.type, dtype=torch.bfloat16),
        sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext(),
    ):
        yield


def computes_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 here: GPUs that support it, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(bool(probe()) for probe in probes if probe is not None)
    return False


def make_deterministic() -> None:
    """Same seed, same result; operations without a deterministic form warn instead of failing."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def default_workers(device: torch.device) -> int:
    """Loader processes: none on a CPU, where they would compete with the step."""
    import os

    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0
