"""fairquant bench: how fast, how large, against the full-precision model in the same call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fairquant.errors import UserError


def bench(
    files: Annotated[
        list[Path], typer.Argument(help="Any number of .safetensors and .onnx files of one architecture.")
    ],
    batches: Annotated[str, typer.Option(help="Batch sizes, with commas.")] = "1,16",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure at each batch size.")] = 5.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of both runtimes.")] = 1,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Time each layer by itself at each width: a table for budget.latency.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="With --per-layer: write the table to this file.")] = None,
) -> None:
    """Latency, throughput, memory and size, in turn with the full-precision model in PyTorch and in ONNX Runtime."""
    try:
        sizes = [int(part) for part in batches.split(",")]
        if not sizes or min(sizes) < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"--batches {batches}: must be whole numbers with commas, such as 1,16") from None
    if per_layer:
        return _per_layer(files, min(sizes), seconds / 10, threads, out)
    if out is not None:
        raise UserError("--out: only with --per-layer")
    import tempfile

    import torch

    from fairquant.artifact.runtime import Preprocessing, open_runtime
    from fairquant.artifact.speed import measure, peak_memory, speed

    torch.set_num_threads(threads)
    runs: dict[str, Any] = {}
    facts: dict[str, tuple[int, int]] = {}
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            runtime = open_runtime(file, threads)
            size = Preprocessing.of(runtime.metadata, file).image_size
            name = f"{_short(file, files)} ({runtime.name})"
            runs[name] = runtime.logits
            facts[name] = file.stat().st_size, peak_memory(file, size, max(sizes), threads)
        reference = next((file for file in files if file.suffix == ".safetensors"), None)
        if reference is None and (beside := files[0].with_name("model.safetensors")).is_file():
            reference = beside
        if reference is not None:
            _full_precision(reference, Path(folder), (size, max(sizes), threads), runs, facts)
    found = measure(runs, size, sizes, seconds)
    print(_machine(threads))
    import numpy as np

    base = next((name for name in runs if name.startswith("full precision (PyTorch")), None)
    head = "".join(f"{f'batch {b}: median ms':>22}{'95 %':>9}" for b in sizes)
    print(f"{'':44}{head}{'images/s':>10}{'MB':>8}{'peak MB':>9}{'speed-up':>10}")
    for name in runs:
        it = speed(name, found[name], *facts[name])
        cells = "".join(f"{it.milliseconds[b][0]:>22.2f}{it.milliseconds[b][1]:>9.2f}" for b in sizes)
        ratio = ""
        if base is not None:
            pairs = zip(found[base][sizes[0]], found[name][sizes[0]], strict=True)
            ratio = f"{np.median([one / other for one, other in pairs]):.1f}x"
        print(f"{name[-43:]:44}{cells}{it.throughput:>10.0f}{it.bytes / 1e6:>8.2f}{it.peak / 1e6:>9.0f}{ratio:>10}")
    if base is not None:
        print(f"speed-up: over full precision in PyTorch at batch {sizes[0]}, median of pairs measured in turn")


def _per_layer(files: list[Path], batch: int, seconds: float, threads: int, out: Path | None) -> None:
    """Milliseconds of each layer, as an export has it; seconds: for each layer."""
    import json

    import torch

    from fairquant.artifact.layer_speed import measure_layers
    from fairquant.artifact.load import load, read_artifact
    from fairquant.artifact.onnx import need_onnx
    from fairquant.artifact.runtime import Preprocessing
    from fairquant.bits import find_layers
    from fairquant.bits.activations import take_off
    from fairquant.cli.display import Bars
    from fairquant.files import write_atomically

    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise UserError("--per-layer: give one .safetensors file, whose layers are to be timed")
    need_onnx()
    torch.set_num_threads(threads)
    size = Preprocessing.of(read_artifact(files[0]).metadata, files[0]).image_size
    network = load(files[0])
    take_off(network)
    layers = find_layers(network, "tensor")
    with Bars() as bars:
        advance = bars.bar("layers", len(layers))
        images = torch.zeros(batch, 3, size, size)
        found = measure_layers(network, layers, images, seconds, threads, lambda: advance(1))
    wide = max(20, *(len(each.name) for each in found))
    print(_machine(threads) + f", batch {batch}, {size} pixels")
    print(f"{'milliseconds':{wide}}{'to 4 bits':>12}{'to 8 bits':>12}{'float':>12}")
    for each in found:
        print(f"{each.name:{wide}}" + "".join(f"{each.at(bits):>12.4f}" for bits in (4, 8, 32)))
    print(f"{'all':{wide}}" + "".join(f"{sum(each.at(bits) for each in found):>12.4f}" for bits in (4, 8, 32)))
    if all(each.at(4) == each.at(8) for each in found):
        print("fewer than 8 bits are no faster here: ONNX Runtime computes in int8; they make the file smaller")
    if slower := [each.name for each in found if each.at(8) > each.at(32)]:
        print(f"faster in float than in int8 (see quantize.keep): {', '.join(slower)}")
    if out is not None:
        times = {each.name: {str(bits): round(each.at(bits), 6) for bits in (4, 8, 32)} for each in found}
        facts = {"machine": _machine(threads), "batch": batch, "image_size": size, "layers": times}
        write_atomically(out, (json.dumps(facts, indent=1) + "\n").encode())
        print(f"{out}: the table, for budget.latency_table")


def _full_precision(
    file: Path, folder: Path, how: tuple[int, int, int], runs: dict[str, Any], facts: dict[str, tuple[int, int]]
) -> None:
    """The same network with float32 weights, in PyTorch and exported as it is. how: image size, batch, threads."""
    from fairquant.artifact.load import load, read_artifact
    from fairquant.artifact.runtime import TorchRuntime
    from fairquant.artifact.save import save_artifact
    from fairquant.artifact.speed import peak_memory
    from fairquant.bits.activations import take_off

    model = load(file)
    take_off(model)
    artifact = read_artifact(file)
    metadata = {key: value for key, value in artifact.metadata.items() if key not in ("layers", "activations")}
    plain = folder / "full.safetensors"
    save_artifact(plain, model, (), {}, metadata)
    size = sum(v.numel() * v.element_size() for v in model.state_dict().values())
    runs["full precision (PyTorch fp32)"] = TorchRuntime(model, {}).logits
    facts["full precision (PyTorch fp32)"] = size, peak_memory(plain, *how)
    try:
        import onnxruntime

        from fairquant.artifact.onnx import need_onnx, trace

        need_onnx()
    except (UserError, ImportError):
        return
    traced = folder / "full.onnx"
    trace(load(plain), artifact, traced)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = how[-1]
    session = onnxruntime.InferenceSession(str(traced), options, providers=["CPUExecutionProvider"])
    facts["full precision (ONNX Runtime fp32)"] = traced.stat().st_size, peak_memory(traced, *how, plain=True)
    runs["full precision (ONNX Runtime fp32)"] = lambda images: session.run(None, {"images": images})


def _short(file: Path, files: list[Path]) -> str:
    """Its name, with its folder where two are called alike."""
    alike = sum(each.name == file.name for each in files) > 1
    return f"{file.parent.name[-12:]}/{file.name}" if alike else file.name


def _machine(threads: int) -> str:
    """What it was measured on: the int8 kernels want VNNI."""
    import platform

    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    model = next(
        (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    has = ", ".join(
        name
        for name, flag in (("AVX512-VNNI", "avx512_vnni"), ("AVX-VNNI", "avx_vnni"), ("AMX", "amx_int8"))
        if flag in text
    )
    return f"{model or platform.machine()}, {threads} thread(s), {has or 'no VNNI: int8 brings less'}"
