"""Every lifecycle event fires, with what its documentation says, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

import fairquant
from fairquant.errors import Infeasible
from fairquant.registry import discover, hookimpl, hookspecs

SMALL = ("baseline.epochs=1", "train.epochs=1", "tracking.mlflow=null", "dataset.images=80")


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict]] = []


def listening(plugins) -> Recorder:
    recorder = Recorder()

    class Listener:
        @hookimpl
        def fairquant_run_started(self, run):
            assert run.folder.is_dir()
            assert (run.folder / "recipe.yaml").is_file()
            recorder.events.append(("run_started", {"run": run}))

        @hookimpl
        def fairquant_importance_done(self, run, importance):
            recorder.events.append(("importance_done", {"groups": importance.table().shape[0]}))

        @hookimpl
        def fairquant_plan_made(self, run, plan):
            recorder.events.append(("plan_made", {"average": plan.average}))

        @hookimpl
        def fairquant_epoch_finished(self, run, stage, epoch, values):
            recorder.events.append(("epoch_finished", {"stage": stage, "epoch": epoch, "loss": values["loss"]}))

        @hookimpl
        def fairquant_run_finished(self, run, report):
            assert (run.folder / "report.json").is_file()
            recorder.events.append(("run_finished", {"bits": report["bits"]["average"]}))

        @hookimpl
        def fairquant_run_failed(self, run, error):
            recorder.events.append(("run_failed", {"error": type(error).__name__}))

        @hookimpl
        def fairquant_comparison_started(self, comparison):
            recorder.events.append(("comparison_started", {"name": comparison.name}))

        @hookimpl
        def fairquant_comparison_finished(self, comparison, folders):
            assert (comparison.folder / "compare.json").is_file()
            recorder.events.append(("comparison_finished", {"folders": len(folders)}))

        @hookimpl
        def fairquant_study_started(self, study):
            recorder.events.append(("study_started", {"name": study.name}))

        @hookimpl
        def fairquant_trial_finished(self, study, number, state, folder, values):
            recorder.events.append(("trial_finished", {"number": number, "state": state, "bits": values["bits"]}))

        @hookimpl
        def fairquant_study_finished(self, study, folders):
            assert (study.folder / "study.html").is_file()
            recorder.events.append(("study_finished", {"folders": len(folders)}))

    plugins.manager.register(Listener(), name="listening")
    return recorder


def test_the_events_of_a_run_come_in_order():
    plugins = discover()
    recorder = listening(plugins)
    fairquant.run("quickstart", "method=fq-qat", *SMALL, demo=True, plugins=plugins)
    assert [name for name, _ in recorder.events] == [
        "run_started", "epoch_finished", "importance_done", "plan_made", "epoch_finished", "run_finished",
    ]  # fmt: skip
    stages = [(v["stage"], v["epoch"]) for name, v in recorder.events if name == "epoch_finished"]
    assert stages == [("baseline", 1), ("quantized", 1)]
    fairquant.run("quickstart", "method=fq-qat", *SMALL, demo=True, plugins=plugins)
    assert len(recorder.events) == 6  # a finished run is shown, not run


def test_a_run_that_fails():
    plugins = discover()
    recorder = listening(plugins)
    with pytest.raises(Infeasible):
        fairquant.run(
            "quickstart", "method=fairquantize-ptq", "budget.average_bits=1", *SMALL, demo=True, plugins=plugins
        )
    assert recorder.events[-1] == ("run_failed", {"error": "Infeasible"})


def test_a_comparison():
    plugins = discover()
    recorder = listening(plugins)
    fairquant.compare("quickstart", *SMALL, methods=["uniform-4-ptq"], seeds=[0], demo=True, plugins=plugins)
    names = [name for name, _ in recorder.events]
    assert (names[0], names[-1]) == ("comparison_started", "comparison_finished")
    assert recorder.events[-1][1] == {"folders": 1}


def test_a_study(tmp_path):
    recipe = tmp_path / "searched.yaml"
    recipe.write_text(
        "dataset: {name: synthetic-lesions}\nmethod: uniform-4-ptq\nmodel: {name: resnet10t, image_size: 32}\n"
        "search: {parameters: {calibration.images: [32]}, objectives: {accuracy: maximize}, sampler: grid}\n"
    )
    plugins = discover()
    recorder = listening(plugins)
    fairquant.search(recipe, *SMALL, plugins=plugins)
    names = [name for name, _ in recorder.events]
    assert (names[0], names[-1]) == ("study_started", "study_finished")
    assert ("trial_finished", {"number": 0, "state": "complete", "bits": 4.0}) in recorder.events
    assert recorder.events[-1][1] == {"folders": 1}


def test_every_hook_is_tested_here():
    hooks = {name.removeprefix("fairquant_") for name in dir(hookspecs) if name.startswith("fairquant_")} - {"register"}
    source = Path(__file__).read_text()
    assert all(f'"{name}"' in source for name in hooks), hooks
