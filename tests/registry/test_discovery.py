"""A plugin that is broken, in any way, is named and skipped; what does not use it is not affected."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
from helpers.plugins import HEAD, REGISTER, entry_point, our_entry_points

import fairquant
from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.presets import library
from fairquant.registry import discover

GOOD = REGISTER + "registry.add('reducer', 'good-one', 'fairquant_paper.reducers:Max')\n"


BAD = {
    "import": ("import a_module_that_is_nowhere", "ModuleNotFoundError: No module named 'a_module_that_is_nowhere'"),
    "syntax": ("def broken(:", "SyntaxError"),
    "raises": (REGISTER + "raise RuntimeError('broken')", "RuntimeError: broken"),
    "role": (REGISTER + "registry.add('reduser', 'x', 'a:B')", "ValueError: unknown role 'reduser'. Did you mean 'reducer'?"),
    "type": (REGISTER + "registry.add('reducer', 'x', max)", "TypeError: registry.add: target must be text, got <built-in function max>"),
    "target": (REGISTER + "registry.add('reducer', 'x', 'a.B')", "target 'a.B' must read 'package.module:Class'"),
    "clash": (
        REGISTER + "registry.add('reducer', 'ours', 'a:B'); registry.add('reducer', 'max', 'a:B')",
        "reducer 'max' is registered twice: fairquant_paper.reducers:Max (fairquant) and a:B (?)",
    ),
    "hook": (HEAD + "@hookimpl\ndef fairquant_run_finish(run): pass", "there is no hook 'fairquant_run_finish'. Did you mean 'fairquant_run_finished'?"),
    "unmarked": ("def fairquant_run_finished(run): pass", "fairquant_run_finished needs the decorator @hookimpl"),
    "argument": (HEAD + "@hookimpl\ndef fairquant_run_finished(run, rapport): pass", "rapport"),
    "newer": ("FAIRQUANT_CONTRACT = 9\n" + GOOD, "built for contract 9, this FairQuant has contract 1: upgrade fairquant"),
    "older": ("FAIRQUANT_CONTRACT = 0\n" + GOOD, "built for contract 0, this FairQuant has contract 1: upgrade the plugin."),
    "recipes": (REGISTER + "registry.add_recipes('nowhere_at_all')", "recipes: 'nowhere_at_all' is not an importable package"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_it_is_named_and_skipped_whole(tmp_path, monkeypatch, kind):
    code, text = BAD[kind]
    plugins = discover(
        [
            *our_entry_points(),
            entry_point(monkeypatch, tmp_path, kind, code),
            entry_point(monkeypatch, tmp_path, "sound", GOOD),
        ]
    )
    assert len(plugins.problems) == 1
    assert plugins.problems[0].startswith(f"plugin '{kind}' of ? is skipped: ")
    assert text in plugins.problems[0]
    assert "good-one" in plugins.registry.names("reducer")
    assert "ours" not in plugins.registry.names("reducer")  # nothing of a plugin that clashes
    assert plugins.registry.load("reducer", "max")
    assert not plugins.manager.has_plugin(kind)


def test_a_run_that_does_not_use_it_is_not_affected(tmp_path, monkeypatch):
    plugins = discover([*our_entry_points(), entry_point(monkeypatch, tmp_path, "raises", BAD["raises"][0])])
    result = fairquant.run(
        "quickstart", "method=uniform-2-ptq", "baseline.epochs=1", "tracking.mlflow=null", demo=True, plugins=plugins
    )
    assert result.report["bits"]["average"] == 2
    assert "plugin 'raises' of ? is skipped" in (result.folder / "log.txt").read_text()


def test_strict_raises_and_disable_recovers(tmp_path, monkeypatch):
    points = [*our_entry_points(), entry_point(monkeypatch, tmp_path, "raises", BAD["raises"][0])]
    monkeypatch.setenv("FAIRQUANT_STRICT_PLUGINS", "1")
    with pytest.raises(UserError, match="plugin 'raises' of \\? is skipped"):
        discover(points)
    monkeypatch.setenv("FAIRQUANT_DISABLE_PLUGINS", "raises")
    assert discover(points).problems == ()
    monkeypatch.setenv("FAIRQUANT_DISABLE_PLUGINS", "mlflow")
    monkeypatch.delenv("FAIRQUANT_STRICT_PLUGINS")
    assert not discover(points).manager.has_plugin("mlflow")


def test_a_name_that_is_not_known_is_reported_with_the_plugins_that_are_left_out(tmp_path, monkeypatch):
    points = [*our_entry_points(), entry_point(monkeypatch, tmp_path, "raises", BAD["raises"][0])]
    monkeypatch.setenv("FAIRQUANT_DISABLE_PLUGINS", "mlfow, mlflow")
    plugins = discover(points)
    assert plugins.problems[-1] == "FAIRQUANT_DISABLE_PLUGINS: no plugin is called 'mlfow'. Did you mean 'mlflow'?"
    with pytest.raises(
        UserError,
        match=r"no metric is called 'jain'.*\. Plugin 'raises' of \? is skipped: .*\. Plugin 'mlflow' of \S+ is disabled",
    ):
        plugins.registry.entry("metric", "jain")


def test_plugins_bring_recipes_and_methods(tmp_path, monkeypatch):
    methods = tmp_path / "bringing" / "recipes" / "methods"
    methods.mkdir(parents=True)
    (tmp_path / "bringing" / "__init__.py").touch()
    (methods.parent / "theirs.yaml").write_text("# Theirs\nmethod: their-method\ndataset: {name: synthetic-lesions}\n")
    (methods / "their-method.yaml").write_text("allocator: {name: knapsack}\nreducer: {name: mean}\n")
    (methods / "fq-qat.yaml").write_text("allocator: {name: uniform}\n")  # ours stays
    code = REGISTER + "registry.add_recipes('bringing')\n"
    registry = discover([*our_entry_points(), entry_point(monkeypatch, tmp_path, "brings", code)]).registry
    recipe = read_recipe("recipes/theirs.yaml", registry=registry)
    assert (recipe.method, recipe.quantization.reducer.name) == ("their-method", "mean")
    assert read_recipe("theirs", ["method=their-method-ptq"], registry=registry).train.post_training
    assert library(registry).load_method("fq-qat")["allocator"]["name"] == "minimax"


def test_a_broken_plugin_is_named_and_skipped():

    from fairquant.registry import discover

    points = [
        EntryPoint("broken", "no_such_module_anywhere", "fairquant"),
        EntryPoint("fair", "fairquant_fair.plugin", "fairquant"),
        EntryPoint("again", "fairquant_fair.plugin", "fairquant"),
    ]
    plugins = discover(points)
    assert "minimax" in plugins.registry.names("allocator")
    assert len(plugins.problems) == 2
    assert any("plugin 'broken'" in problem for problem in plugins.problems)
