"""A component that raises is named, and the run can be resumed."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from helpers.recipes import write_recipe

import fairquant
from fairquant.errors import PluginFailed
from fairquant.registry import discover

HEAD = "from fairquant.registry import hookimpl\n"


REGISTER = HEAD + "@hookimpl\ndef fairquant_register(registry):\n    "


def point(monkeypatch, folder: Path, name: str, code: str) -> EntryPoint:
    (folder / f"plugin_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop(f"plugin_{name}", None)
    return EntryPoint(name, f"plugin_{name}", "fairquant")


def ours() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return [each for each in entry_points(group="fairquant") if each.dist and each.dist.name == "fairquant"]


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
    plugins = discover([*ours(), point(monkeypatch, tmp_path, "late", code)])
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


def test_importance_of_a_plugin_that_raises_leaves_a_resumable_run(monkeypatch):
    from fairquant_fair.fisher import Fisher

    def fail(*_):
        raise RuntimeError("the plugin is broken")

    real = Fisher.measure
    monkeypatch.setattr(Fisher, "measure", fail)
    with pytest.raises(RuntimeError, match="the plugin is broken"):
        fairquant.run(write_recipe())
    monkeypatch.setattr(Fisher, "measure", real)
    assert "the plugin is broken" in next(Path("runs/tiny").glob("*/log.txt")).read_text()
    assert fairquant.run(write_recipe()).report["bits"]["average"] <= 2.5
