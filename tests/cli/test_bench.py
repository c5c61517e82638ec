"""fairquant bench: speed of files, and of layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.recipes import write_recipe
from typer.testing import CliRunner

import fairquant
from fairquant.bits import find_layers
from fairquant.cli import app
from fairquant.recipe import read_recipe
from fairquant.recipe.latency import read_table

onnx = pytest.importorskip("onnx")


def test_bench_measures_all_side_by_side(exported, quickstart_runs):
    result = CliRunner().invoke(
        app,
        [
            "bench",
            str(quickstart_runs[0] / "model.safetensors"),
            str(exported[0]),
            "--seconds",
            "0.3",
            "--batches",
            "1,4",
        ],
    )
    assert result.exit_code == 0, result.output
    for text in (
        "model.safetensors (PyTorch)",
        "model.onnx (ONNX Runtime)",
        "full precision (PyTorch fp32)",
        "full precision (ONNX Runtime fp32)",
        "speed-up",
    ):
        assert text in result.output, result.output
    memory = [float(line.split()[-2]) for line in result.output.splitlines() if line.endswith("x")]
    assert len(memory) == 4
    assert min(memory) > 1  # megabytes, each in a process of its own: none hides behind one before it


def test_from_bench_to_a_run_within_its_milliseconds(registry):
    pytest.importorskip("onnx")
    first = fairquant.run(write_recipe(method="uniform-4-ptq", budget={"average_bits": 4}))
    file = first.folder / "model.safetensors"
    result = CliRunner().invoke(app, ["bench", str(file), "--per-layer", "--seconds", "0.2", "--out", "table.json"])
    assert result.exit_code == 0, result.output
    table = read_table("table.json")
    assert set(table) == {layer.name for layer in find_layers(fairquant.load(file), "tensor")}
    assert all(set(times) == {4, 8, 32} for times in table.values())
    # a machine with kernels of 2 and 4 bits: its table is written by hand
    table_of_npu = {name: {"2": 0.25, "4": 0.5, "8": 1.0} for name in table}
    Path("npu.json").write_text(json.dumps({"layers": table_of_npu}))
    limit = 0.55 * len(table)
    options = {"quantize": {"units": "tensor", "choices": [2, 4, 8]}}
    budget = {"average_bits": None, "latency": f"{limit:.3f}ms", "latency_table": "npu.json"}
    for method in ("fq-qat", "fq-baq"):
        run = fairquant.run(write_recipe(method=method, budget=budget, **options))
        report = run.report
        assert 0.8 * limit <= report["bits"]["latency_ms"] <= limit
        assert report["budget"]["latency_ms"] == pytest.approx(limit, abs=1e-3)
        assert "ms in the quantized layers" in (run.folder / "report.html").read_text()
    before = read_recipe(write_recipe(budget=budget, **options), registry=registry).digest()
    table_of_npu[next(iter(table_of_npu))]["2"] = 0.2
    Path("npu.json").write_text(json.dumps({"layers": table_of_npu}))
    assert (
        read_recipe(write_recipe(budget=budget, **options), registry=registry).digest() != before
    )  # its numbers, not its name
