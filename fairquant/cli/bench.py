"""fairquant bench: how fast, how large, against the full-precision model in the same call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairquant.errors import UserError
from fairquant.files import check_target


def bench(
    files: Annotated[
        list[Path], typer.Argument(help="Any number of .safetensors and .onnx files of one architecture.")
    ],
    batches: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,16",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure at each batch size.")] = 5.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of both runtimes.")] = 1,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Time each layer alone at each width: a table for budget.latency.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="With --per-layer: write the table to this file.")] = None,
) -> None:
    """Latency, throughput, memory and size, in turn with the full-precision model in PyTorch and in ONNX Runtime."""
    try:
        sizes = [int(text) for text in batches.split(",")]
        if not sizes or min(sizes) < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"--batches {batches}: must be whole numbers with commas, such as 1,16") from None
    if per_layer:
        return _per_layer(files, min(sizes), seconds / 10, threads, out)
    if out is not None:
        raise UserError("--out: only with --per-layer")
    from fairquant.export.bench import bench_files, machine

    result = bench_files(files, sizes, seconds, threads)
    print(machine(threads))
    head = "".join(f"{f'batch {b}: median ms':>22}{'95 %':>9}" for b in sizes)
    print(f"{'':44}{head}{'images/s':>10}{'MB':>8}{'peak MB':>9}{'speed-up':>10}")
    for each in result.speeds:
        cells = "".join(f"{each.milliseconds[b][0]:>22.2f}{each.milliseconds[b][1]:>9.2f}" for b in sizes)
        ratio = f"{result.ratios[each.name]:.1f}x" if each.name in result.ratios else ""
        memory = f"{each.bytes / 1e6:>8.2f}{each.peak / 1e6:>9.0f}"
        print(f"{each.name[-43:]:44}{cells}{each.throughput:>10.0f}{memory}{ratio:>10}")
    if result.ratios:
        print(f"speed-up: over full precision in PyTorch at batch {sizes[0]}, median of pairs measured in turn")


def _per_layer(files: list[Path], batch: int, seconds: float, threads: int, out: Path | None) -> None:
    """Milliseconds of each layer, as an export has it; seconds: for each layer."""
    check_target("--out", out, ".json")
    from fairquant.cli.display import Bars
    from fairquant.export.bench import bench_layers, machine
    from fairquant.report.write import write_json

    if len(files) != 1:
        raise UserError("--per-layer: give one .safetensors file, whose layers are to be timed")
    with Bars() as bars:
        layers, size = bench_layers(files[0], batch, seconds, threads, lambda total: bars.bar("layers", total))
    wide = max(20, *(len(each.name) for each in layers))
    print(machine(threads) + f", batch {batch}, {size} pixels")
    print(f"{'milliseconds':{wide}}{'to 4 bits':>12}{'to 8 bits':>12}{'float':>12}")
    for each in layers:
        print(f"{each.name:{wide}}" + "".join(f"{each.at(bits):>12.4f}" for bits in (4, 8, 32)))
    print(f"{'all':{wide}}" + "".join(f"{sum(each.at(bits) for each in layers):>12.4f}" for bits in (4, 8, 32)))
    if all(each.at(4) == each.at(8) for each in layers):
        print("fewer than 8 bits are no faster here: ONNX Runtime computes in int8; they make the file smaller")
    if slower := [each.name for each in layers if each.at(8) > each.at(32)]:
        print(f"faster in float than in int8 (see quantize.keep): {', '.join(slower)}")
    if out is not None:
        times = {each.name: {str(bits): round(each.at(bits), 6) for bits in (4, 8, 32)} for each in layers}
        write_json(out, {"machine": machine(threads), "batch": batch, "image_size": size, "layers": times})
        print(f"{out}: the table, for budget.latency_table")
