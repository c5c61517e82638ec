"""What `fairquant bench` measures, and against what."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.export import bench
from fairquant.export.bench import FULL_ONNX, FULL_TORCH, _reference, _short, bench_files, bench_layers, machine


def test_files_are_measured_beside_full_precision_which_is_as_fast_as_itself(untrained_artifact, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(bench, "peak_memory", lambda *_, **__: 1000)
    result = bench_files([untrained_artifact], [1, 2], seconds=0.01, threads=1)
    names = ["model.safetensors (PyTorch)", FULL_TORCH, FULL_ONNX]
    assert [each.name for each in result.speeds] == names
    assert list(result.ratios) == names
    assert result.ratios[FULL_TORCH] == 1.0
    assert result.speeds[0].bytes == untrained_artifact.stat().st_size < result.speeds[1].bytes / 4
    assert all(set(each.milliseconds) == {1, 2} for each in result.speeds)


def test_layers_are_timed_of_an_artifact_only():
    with pytest.raises(UserError, match="--per-layer: give one .safetensors file"):
        bench_layers(Path("model.onnx"), 1, 0.1, 1, lambda layers: lambda done: None)


def test_full_precision_comes_from_an_artifact_given_or_beside_the_exported_file(tmp_path):
    exported, artifact = tmp_path / "model.onnx", tmp_path / "model.safetensors"
    assert _reference([exported]) is None
    artifact.touch()
    assert _reference([exported]) == artifact
    assert _reference([exported, Path("other.safetensors")]) == Path("other.safetensors")


def test_files_of_the_same_name_are_told_apart_by_their_folders():
    files = [Path("runs/one/model.onnx"), Path("runs/two/model.onnx"), Path("small.onnx")]
    assert [_short(file, files) for file in files] == ["one/model.onnx", "two/model.onnx", "small.onnx"]


def test_the_machine_says_whether_its_int8_kernels_are_fast(monkeypatch):
    cpuinfo = "model name : Some CPU\nflags : fpu avx512_vnni amx_int8\n"
    monkeypatch.setattr(Path, "read_text", lambda self: cpuinfo)
    assert machine(2) == "Some CPU, 2 thread(s), AVX512-VNNI, AMX"
    monkeypatch.setattr(Path, "read_text", lambda self: "model name : Old CPU\nflags : fpu\n")
    assert machine(1) == "Old CPU, 1 thread(s), no VNNI: int8 gains less"
