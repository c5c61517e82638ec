"""A component that raises is named, and the run can be resumed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fairquant_fair.fisher import BlockFisher, Fisher
from helpers.plugins import REGISTER, entry_point, our_entry_points
from helpers.recipes import write_recipe

import fairquant
from fairquant.errors import PluginFailed, UserError
from fairquant.registry import discover

RAISES = '''
"""A reducer that raises in the middle of a run."""
from dataclasses import dataclass

@dataclass(frozen=True)
class Raises:
    """Raises until a file says that it is mended."""
    def reduce(self, importance, group_names):
        import pathlib
        if not pathlib.Path("mended").exists():
            raise RuntimeError("no score today")
        return importance.max(0).values
'''


def test_a_component_that_raises_is_named_and_the_run_can_be_resumed(tmp_path, monkeypatch):
    (tmp_path / "raising_reducer.py").write_text(RAISES)
    code = REGISTER + "registry.add('reducer', 'raises', 'raising_reducer:Raises')\n"
    plugins = discover([*our_entry_points(), entry_point(monkeypatch, tmp_path, "late", code)])
    overrides = ["method=fq-qat", "reducer.name=raises", "baseline.epochs=1", "train.epochs=1", "tracking.mlflow=null"]
    with pytest.raises(
        PluginFailed, match=r"reducer 'raises' of \?  raised RuntimeError: no score today\. The traceback is in"
    ):
        fairquant.run("quickstart", *overrides, demo=True, plugins=plugins)
    log = next(Path("runs").rglob("log.txt")).read_text()
    assert "in reduce" in log
    assert "RuntimeError: no score today" in log
    Path("mended").touch()
    result = fairquant.run("quickstart", *overrides, demo=True, plugins=plugins)
    assert "taken from" in (result.folder / "log.txt").read_text()  # the baseline was not trained again


@pytest.mark.parametrize(
    ("method", "kind", "name"), [("iterative-qat", Fisher, "measure"), ("fq-baq", BlockFisher, "measure_jointly")]
)
def test_importance_of_a_plugin_that_raises_leaves_a_resumable_run(monkeypatch, method, kind, name):
    def fail(*_):
        raise RuntimeError("the plugin is broken")

    real = getattr(kind, name)
    monkeypatch.setattr(kind, name, fail)
    with pytest.raises(RuntimeError, match="the plugin is broken"):
        fairquant.run(write_recipe(method=method))
    monkeypatch.setattr(kind, name, real)
    assert "the plugin is broken" in next(Path("runs/tiny").glob("*/log.txt")).read_text()
    assert fairquant.run(write_recipe(method=method)).report["bits"]["average"] <= 2.5


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "ConnectionError('no answer of postgresql://alice:PW@db/x')",
            r"reducer 'raises' of \?  raised ConnectionError: no answer",
        ),
        (
            "OSError(28, 'No space left on device', 'their.cache')",
            "their.cache: No space left on device. The run can be resumed",
        ),
    ],
)
def test_an_error_of_the_machine_is_told_from_a_plugins_own(tmp_path, monkeypatch, error, message):
    (tmp_path / "erring_reducer.py").write_text(
        RAISES.replace("RuntimeError('no score today')", error).replace('RuntimeError("no score today")', error)
    )
    monkeypatch.delitem(sys.modules, "erring_reducer", raising=False)
    code = REGISTER + "registry.add('reducer', 'raises', 'erring_reducer:Raises')\n"
    plugins = discover([*our_entry_points(), entry_point(monkeypatch, tmp_path, "erring", code)])
    overrides = ["method=fq-qat", "reducer.name=raises", "baseline.epochs=1", "train.epochs=1", "tracking.mlflow=null"]
    with pytest.raises(UserError, match=message):
        fairquant.run("quickstart", *overrides, demo=True, plugins=plugins)
    assert "PW" not in next(Path("runs").rglob("log.txt")).read_text()


def test_a_listener_gets_a_report_of_its_own(tmp_path, monkeypatch):
    code = (
        "from fairquant.registry import hookimpl\n@hookimpl\ndef fairquant_run_finished(run, report):\n"
        "    report['metrics'].clear()\n    report['accept']['answer'] = 'PASS'\n"
    )
    plugins = discover([*our_entry_points(), entry_point(monkeypatch, tmp_path, "clears", code)])
    result = fairquant.run(
        "quickstart", "method=uniform-2-ptq", "baseline.epochs=1", "tracking.mlflow=null", demo=True, plugins=plugins
    )
    assert result.report["metrics"]
    assert result.report["accept"]["answer"] != "PASS"
