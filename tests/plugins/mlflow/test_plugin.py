"""The hooks do nothing, and import nothing, where a recipe names no store."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from types import SimpleNamespace as Some
from fairquant_mlflow import plugin
untracked = Some(recipe=Some(tracking=Some(mlflow=None)))
plugin.fairquant_run_started(run=untracked)
plugin.fairquant_run_finished(run=untracked, report={})
plugin.fairquant_study_finished(study=untracked, folders=[])
print([name for name in ("mlflow", "fairquant_mlflow.listener", "fairquant_mlflow.parents") if name in sys.modules])
"""


def test_without_a_store_mlflow_is_not_imported():
    process = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert process.stdout == "[]\n", process.stderr


def test_it_registers_no_component_and_listens_to_every_event_but_two(plugins):
    from fairquant.registry import hookspecs

    assert not [entry for entry in plugins.registry.entries() if "mlflow" in entry.target]
    listening = {hook.name for hook in plugins.manager.get_hookcallers(plugins.manager.get_plugin("mlflow"))}
    every = {name for name in dir(hookspecs) if name.startswith("fairquant_")}
    assert every - listening == {"fairquant_register", "fairquant_importance_done", "fairquant_plan_made"}
