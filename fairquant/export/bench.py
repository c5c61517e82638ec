"""What `fairquant bench` measures: files of one architecture, in turn with the same network in full precision."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairquant.artifact.load import Artifact, load, read_artifact
from fairquant.artifact.save import save_artifact
from fairquant.bits import find_layers
from fairquant.bits.activations import remove_input_quantizers
from fairquant.errors import UserError
from fairquant.export.layer_speed import LayerSpeed, measure_layers
from fairquant.export.onnx import need_onnx, trace
from fairquant.export.runtime import Preprocessing, TorchRuntime, open_runtime
from fairquant.export.speed import Speed, measure, onnx_session, peak_memory, speed
from fairquant.files import scratch_folder

FULL_TORCH, FULL_ONNX = "full precision (PyTorch fp32)", "full precision (ONNX Runtime fp32)"


@dataclass(frozen=True)
class Contender:
    """One model to time. size, peak: bytes on disk, and bytes of memory at most."""

    run: Callable[[NDArray[np.float32]], object]
    size: int
    peak: int


@dataclass(frozen=True)
class Bench:
    """speeds: in the order measured. ratios: name -> how many times faster than full precision in PyTorch, at the first
    batch size, median of pairs measured in turn; empty where full precision was not measured."""

    speeds: tuple[Speed, ...]
    ratios: dict[str, float]


def bench_files(files: Sequence[Path], batches: Sequence[int], seconds: float, threads: int) -> Bench:
    """Latency, throughput, memory and size of every file and of full precision. Raises UserError for unreadable files."""
    torch.set_num_threads(threads)
    contenders: dict[str, Contender] = {}
    size = 0
    with scratch_folder() as folder:
        for file in files:
            runtime = open_runtime(file, threads)
            size = Preprocessing.of(runtime.metadata, file).image_size
            peak = peak_memory(file, size, max(batches), threads)
            name = f"{_short(file, files)} ({runtime.name})"
            contenders[name] = Contender(runtime.logits, file.stat().st_size, peak)
        reference = _reference(files)
        if reference is not None:
            contenders |= _full_precision(reference, Path(folder), (size, max(batches), threads))
    times = measure({name: each.run for name, each in contenders.items()}, size, batches, seconds)
    first = batches[0]
    ratios = {}
    if FULL_TORCH in contenders:
        for name in contenders:
            pairs = zip(times[FULL_TORCH][first], times[name][first], strict=True)
            ratios[name] = float(np.median([one / other for one, other in pairs]))
    speeds = tuple(speed(name, times[name], each.size, each.peak) for name, each in contenders.items())
    return Bench(speeds, ratios)


def bench_layers(
    file: Path, batch: int, seconds: float, threads: int, progress: Callable[[int], Callable[[int], None]]
) -> tuple[list[LayerSpeed], int]:
    """Milliseconds of each layer alone, as an export has it, and the image size. seconds: for each layer.

    progress(layers) gives advance(done).
    """
    if file.suffix != ".safetensors":
        raise UserError("--per-layer: give one .safetensors file, whose layers are to be timed")
    need_onnx()
    torch.set_num_threads(threads)
    size = Preprocessing.of(read_artifact(file).metadata, file).image_size
    network = load(file)
    remove_input_quantizers(network)
    layers = [each for each in find_layers(network, "tensor") if isinstance(each.modules[0], nn.Conv2d | nn.Linear)]
    advance = progress(len(layers))
    images = torch.zeros(batch, 3, size, size)
    return measure_layers(network, layers, images, seconds, threads, lambda: advance(1)), size


def _reference(files: Sequence[Path]) -> Path | None:
    """The artifact that gives the full-precision network its architecture."""
    artifacts = [file for file in files if file.suffix == ".safetensors"]
    beside = files[0].with_name("model.safetensors")
    return artifacts[0] if artifacts else beside if beside.is_file() else None


def _full_precision(file: Path, folder: Path, how: tuple[int, int, int]) -> dict[str, Contender]:
    """The same network with float32 weights, in PyTorch and exported as it is. how: image size, batch, threads."""
    model = load(file)
    remove_input_quantizers(model)
    artifact = read_artifact(file)
    metadata = {key: value for key, value in artifact.metadata.items() if key not in ("layers", "activations")}
    plain = folder / "full.safetensors"
    save_artifact(plain, model, (), {}, metadata)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    contenders = {FULL_TORCH: Contender(TorchRuntime(model, {}).logits, size, peak_memory(plain, *how))}
    try:
        need_onnx()
    except UserError:
        return contenders
    return contenders | {FULL_ONNX: _full_precision_onnx(plain, artifact, folder / "full.onnx", how)}


def _full_precision_onnx(plain: Path, artifact: Artifact, traced: Path, how: tuple[int, int, int]) -> Contender:
    trace(load(plain), artifact, traced)
    session = onnx_session(traced, how[-1])
    peak = peak_memory(traced, *how, plain=True)
    return Contender(lambda images: session.run(None, {"images": images}), traced.stat().st_size, peak)


def _short(file: Path, files: Sequence[Path]) -> str:
    """Its name, with its folder where two have the same name."""
    same = sum(each.name == file.name for each in files) > 1
    return f"{file.parent.name[-12:]}/{file.name}" if same else file.name


def machine(threads: int) -> str:
    """What it was measured on: int8 kernels are fast with VNNI."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = (("AVX512-VNNI", "avx512_vnni"), ("AVX-VNNI", "avx_vnni"), ("AMX", "amx_int8"))
    has = ", ".join(name for name, flag in flags if flag in text)
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {threads} thread(s), {has or 'no VNNI: int8 gains less'}"
