"""A run's folder, log and versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from helpers.recipes import write_recipe

import fairquant
from fairquant.runs.folder import Quiet


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
