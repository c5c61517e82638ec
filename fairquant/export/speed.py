"""Latency of files, measured in turn, and their peak memory, each in its own process."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairquant.errors import UserError
from fairquant.export.runtime import open_runtime


@dataclass(frozen=True, kw_only=True)
class Speed:
    """milliseconds: batch -> (median, 95th percentile) of one call; images a second at the larger batch; bytes on disk;
    peak: most memory above what its libraries take, in bytes, over loading and one call at the largest batch."""

    name: str
    milliseconds: dict[int, tuple[float, float]]
    throughput: float
    bytes: int
    peak: int


def measure(
    runs: dict[str, Callable[[NDArray[np.float32]], object]], size: int, batches: Sequence[int], seconds: float
) -> dict[str, dict[int, list[float]]]:
    """Milliseconds of each, taken in turn so that noise affects all equally: name -> batch -> times.

    runs: name -> a function of normalised images [B, 3, size, size]; seconds: at each batch size, five rounds at least.
    """
    draw = np.random.default_rng(0)
    times: dict[str, dict[int, list[float]]] = {name: {} for name in runs}
    for batch in batches:
        images = draw.normal(size=(batch, 3, size, size)).astype(np.float32)
        for run in runs.values():
            run(images)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(next(iter(times.values())).get(batch, [])) < 5:
            for name, run in runs.items():
                start = time.perf_counter()
                run(images)
                times[name].setdefault(batch, []).append(1e3 * (time.perf_counter() - start))
    return times


def speed(name: str, times: dict[int, list[float]], size: int, peak: int) -> Speed:
    shown = {batch: (statistics.median(values), float(np.quantile(values, 0.95))) for batch, values in times.items()}
    largest = max(times)
    return Speed(name=name, milliseconds=shown, throughput=1e3 * largest / shown[largest][0], bytes=size, peak=peak)


def peak_memory(file: Path, size: int, batch: int, threads: int, plain: bool = False) -> int:
    """Bytes above what its libraries take, at most, while the file is loaded and answers once; in a new process.

    plain: an ONNX file of this machine's own making, without our metadata."""
    command = [sys.executable, "-m", "fairquant.export.speed", str(file), str(size), str(batch), str(threads)]
    process = subprocess.run([*command, *(["--plain"] if plain else [])], capture_output=True, text=True)
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{file}: its memory cannot be measured: {reason}")
    return int(json.loads(process.stdout)["peak"])


def onnx_session(file: Path, threads: int) -> Any:
    """An ONNX Runtime session (which has no types) on the CPU, of a file of this machine's own making."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _resident(key: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process, in bytes; where there is no /proc, the most for both."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _main() -> None:
    """Of one file, in this process: what `peak_memory` calls."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    for name in ("size", "batch", "threads"):
        parser.add_argument(name, type=int)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    for library in ("timm", "onnx", "onnxruntime"):  # first: what they take is no file's
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    torch.set_num_threads(given.threads)
    images = np.zeros((given.batch, 3, given.size, given.size), np.float32)
    torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 16, 16))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the most so far is now's
    before = _resident("VmRSS")
    if given.plain:
        session = onnx_session(given.file, given.threads)
        session.run(None, {session.get_inputs()[0].name: images})
    else:
        open_runtime(given.file, given.threads).logits(images)
    print(json.dumps({"peak": max(_resident("VmHWM") - before, 0)}))


if __name__ == "__main__":
    _main()
