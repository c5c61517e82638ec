"""A run's folder, log and versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.recipes import write_recipe
from helpers.training import CLASSES, GROUPS, small_split

import fairquant
from fairquant.recipe import read_recipe
from fairquant.registry import discover, hookimpl
from fairquant.roles import Splits
from fairquant.runs.folder import (
    Quiet,
    Run,
    default_runs,
    finished_report,
    log_file,
    other_versions,
    run_folder,
    versions,
    versions_key,
)

SPLITS = Splits(
    train=small_split(8), validation=small_split(8), test=small_split(8), class_names=CLASSES, group_names=GROUPS,
    attributes=("skin",), fingerprint="f",
)  # fmt: skip


def test_a_finished_run_of_another_version_says_so(finished):
    folder = Path("runs/tiny") / finished.folder.name
    shutil.copytree(finished.folder, folder)
    messages: list[str] = []
    display = Quiet()
    display.say = messages.append  # type: ignore[method-assign]
    assert fairquant.run(write_recipe(), display=display).was_finished
    assert messages == []
    report = json.loads((folder / "report.json").read_text())
    report["versions"]["fairquant"] = "0.0.9"
    (folder / "report.json").write_text(json.dumps(report))
    assert fairquant.run("tiny.yaml", display=display).was_finished
    now = fairquant.__version__
    assert messages == [f"{folder}: finished with fairquant 0.0.9 (now {now}). Remove the folder to run it again"]


@pytest.fixture
def recipe(registry):
    return read_recipe("quickstart", ["seed=3"], registry=registry)


def test_the_folder_is_named_by_recipe_method_seed_and_digest(recipe):
    assert run_folder(recipe, Path("runs")) == Path(f"runs/quickstart/{recipe.method}-seed3-{recipe.digest()}")
    assert run_folder(recipe.with_changes(demo=True), Path("runs")).parent == Path("runs/quickstart-demo")


def test_runs_go_where_the_environment_says(monkeypatch):
    assert default_runs() == Path("runs")
    monkeypatch.setenv("FAIRQUANT_RUNS", "/data/runs")
    assert default_runs() == Path("/data/runs")


@pytest.mark.parametrize("content", [None, b"", b'{"cut'])
def test_a_run_without_a_whole_report_is_not_finished(content):
    if content is not None:
        Path("report.json").write_bytes(content)
    assert finished_report(Path()) is None


def test_messages_go_to_the_log_the_screen_and_the_report_once(recipe, plugins):
    shown = []
    display = SimpleNamespace(say=shown.append, bar=lambda what, total: shown.append)
    run = Run(recipe=recipe, folder=Path(), runs=Path(), plugins=plugins, display=display, splits=SPLITS, identity={})
    with log_file(Path()):
        run.say("2 images were dropped")
        run.say("2 images were dropped")
        with run.stage("train"):
            pass
    log = Path("log.txt").read_text()
    assert log.count("2 images were dropped") == 2
    assert "train: started" in log
    assert run.messages == ["2 images were dropped"]
    assert shown == run.messages * 2
    assert list(run.timings) == ["train"]


def test_progress_is_passed_on_as_steps_done(recipe, plugins):
    bars = []
    display = SimpleNamespace(bar=lambda what, total: bars.append((what, total)) or (lambda steps: bars.append(steps)))
    on_step = Run(
        recipe=recipe, folder=Path(), runs=Path(), plugins=plugins, display=display, splits=SPLITS, identity={}
    ).steps("training")
    for done in (3, 5, 9):
        on_step(done, 10)
    assert bars == [("training", 10), 3, 2, 4]


def test_a_listener_that_fails_costs_a_warning(recipe):
    plugins = discover()

    class Broken:
        @hookimpl
        def fairquant_epoch_finished(self, values):
            raise ValueError("no")

    plugins.manager.register(Broken(), name="broken")
    shown, watched = [], []
    display = SimpleNamespace(say=shown.append)
    Run(
        recipe=recipe, folder=Path(), runs=Path(), plugins=plugins, display=display, splits=SPLITS, identity={},
        watch=lambda stage, values: watched.append((stage, values)),
    ).epoch("quantized", 1, {"loss": 0.5})  # fmt: skip
    assert shown == ["warning: plugin 'broken' failed in fairquant_epoch_finished: ValueError: no"]
    assert watched == [("quantized", {"loss": 0.5})]


def test_other_versions_are_named_and_unknown_ones_are_not(plugins):
    installed = versions(plugins)
    assert other_versions({"versions": installed}, plugins) == ""
    assert other_versions({}, plugins) == ""
    report_versions = {**installed, "torch": "1.0", "a package of theirs": "7"}
    assert other_versions({"versions": report_versions}, plugins) == f"torch 1.0 (now {installed['torch']})"
    assert versions_key(plugins) == versions_key(discover())
