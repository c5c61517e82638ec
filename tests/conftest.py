"""Fixtures that several folders of tests use; the functions and classes they use are in `helpers`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import REPOSITORY
from helpers.models import Small, Strange
from helpers.recipes import write_recipe
from helpers.shared import made_once
from torch import nn
from typer.testing import CliRunner

import fairquant
from fairquant.api import RunResult
from fairquant.registry import Plugins, Registry, discover
from fairquant.signals import TERMINATING

#: Real data lie beside the checkout, or where FAIRQUANT_TEST_DATA says; tests that need them skip without.
REAL_DATA = Path(os.environ.get("FAIRQUANT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return discover()


@pytest.fixture(scope="session")
def registry(plugins: Plugins) -> Registry:
    return plugins.registry


@pytest.fixture(scope="session")
def metrics(registry: Registry) -> list:
    """The metrics of a recipe that names none, built."""
    from fairquant.recipe.schema import DEFAULT_METRICS, Component

    return [
        Component(
            given["name"], registry.load("metric", given["name"])(**{k: v for k, v in given.items() if k != "name"})
        )
        for given in DEFAULT_METRICS
    ]


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test works in its own folder, with its own cache, untracked unless it says otherwise.

    Modules that it imported from there are forgotten, lest another test of the same process find them.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FAIRQUANT_RUNS", raising=False)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__dict__", {}).get("__file__")).startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A test starts with the handlers of a new process, whatever the tests before it left, or whoever started the tests ignores."""
    numbers = (signal.SIGINT, *TERMINATING)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def _two_threads() -> None:
    """The tests' models are tiny: more threads cost more than they bring, and two workers share the cores."""
    side_by_side = "PYTEST_XDIST_WORKER" in os.environ
    torch.set_num_threads(1 if side_by_side else min(2, torch.get_num_threads()))
    if side_by_side:
        os.environ["OMP_NUM_THREADS"] = "1"  # for what the tests start


@pytest.fixture(scope="session")
def isic_root() -> Path:
    return _real("isic2019")


@pytest.fixture(scope="session")
def fitzpatrick_root() -> Path:
    return _real("fitzpatrick17k")


def _real(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real data {name} are not on this machine (FAIRQUANT_TEST_DATA names their folder)")
    return folder


@pytest.fixture
def strange() -> nn.Module:
    torch.manual_seed(3)
    return Strange()


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(5)
    return Small()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of the tiny recipe (fq-baq), to look at: change nothing in its folder."""

    def make(folder: Path) -> None:
        fairquant.run(write_recipe(), runs=folder / "runs")

    folder = made_once(tmp_path_factory, "finished", make)
    return fairquant.run(folder / "tiny.yaml", runs=folder / "runs")


QUICK = ("baseline.epochs=2", "train.epochs=1", "dataset.images=200", "tracking.mlflow=null", "calibration.images=48")


@pytest.fixture(scope="session")
def quickstart_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of two finished runs of the quickstart: one with at most 4 bits, one with dead zones (fq-baq)."""

    def make(folder: Path) -> None:
        short = ("method=fq-qat", "quantize.choices=[0, 1, 2, 3, 4]")
        plain = fairquant.run("quickstart", *short, *QUICK, demo=True, runs=folder)
        dead = fairquant.run("quickstart", "method=fq-baq", *QUICK, demo=True, runs=folder)
        (folder / "folders.txt").write_text(f"{plain.folder}\n{dead.folder}")

    folder = made_once(tmp_path_factory, "quickstart", make)
    plain, dead = map(Path, (folder / "folders.txt").read_text().splitlines())
    return plain, dead


@pytest.fixture(scope="session")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished demonstration with an operating point for melanoma, its ONNX file beside its model."""

    def make(folder: Path) -> None:
        from fairquant.cli import app

        point = "operating_point={classes: [melanoma], sensitivity: 0.8, partial_from: 0.5}"
        short = [*QUICK, "method=uniform-3-ptq", "model.name=test_resnet", "model.image_size=32"]
        given = ["run", "quickstart", "--demo", *short, point, "protect=[melanoma]", "--runs", "runs", "--show-images"]
        result = CliRunner().invoke(app, given)
        assert result.exit_code == 0, result.output
        (report,) = (folder / "runs").rglob("report.json")
        result = CliRunner().invoke(app, ["export", str(report.with_name("model.safetensors"))])
        assert result.exit_code == 0, result.output

    folder = made_once(tmp_path_factory, "operated", make)
    return next((folder / "runs").rglob("report.json")).parent


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, quickstart_runs: tuple[Path, Path]) -> tuple[Path, str]:
    """The first of these runs as an ONNX file, and what `fairquant export` printed."""
    source = quickstart_runs[0] / "model.safetensors"

    def make(folder: Path) -> None:
        from fairquant.cli import app

        result = CliRunner().invoke(app, ["export", str(source)])
        assert result.exit_code == 0, result.output
        (folder / "output.txt").write_text(result.output)

    folder = made_once(tmp_path_factory, "exported", make)
    return source.with_suffix(".onnx"), (folder / "output.txt").read_text()


@pytest.fixture(scope="session")
def untrained_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of an untrained model, with dead zones (baq) and every width in it."""
    from fairquant_paper.baq import Baq
    from helpers.artifacts import build

    return (
        made_once(tmp_path_factory, "untrained", lambda folder: build(folder / "model.safetensors", Baq()))
        / "model.safetensors"
    )


@pytest.fixture(scope="session")
def untrained_export(tmp_path_factory: pytest.TempPathFactory, untrained_artifact: Path) -> Path:
    """That artifact as an ONNX file."""
    from helpers.artifacts import export

    made_once(tmp_path_factory, "untrained-export", lambda folder: export(untrained_artifact))
    return untrained_artifact.with_suffix(".onnx")


#: The files that take longest, begun first: with two workers the last one would otherwise run alone.
LONGEST = (
    "test_docs.py", "study/test_storage.py", "runs/test_pipeline.py", "registry/test_examples.py", "testing/test_built_ins.py",
    "training/test_distributed.py", "runs/test_papers_grid.py", "cli/test_run.py", "runs/test_planning.py",
    "export/test_graph_checks.py", "study/test_search.py", "study/test_compare.py", "cli/test_bench.py",
    "artifact/test_header.py", "export/test_onnx.py", "training/test_loop.py", "recipe/test_presets.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)
