"""The command line as a user meets it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest


def fairquant(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fairquant", *arguments], capture_output=True, text=True, timeout=300, **options
    )


def test_help_starts_at_once():
    fairquant("--help")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert "validate" in fairquant("--help").stdout
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


@pytest.mark.parametrize("module", ["fairquant", "fairquant.cli", "fairquant.recipe", "fairquant.registry"])
def test_the_shell_of_the_house_does_not_import_torch(module):
    code = f"import {module}, sys; print([m for m in ('torch', 'mlflow', 'optuna', 'timm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_plugins_lists_everything_without_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from fairquant.cli import app; "
        "print(CliRunner().invoke(app, ['plugins']).output); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.endswith("False\n")
    assert "minimax" in out
    assert "fairquant 0." in out


def test_a_users_mistake_gives_exit_2_and_no_traceback():
    Path("bad.yaml").write_text("dataset: {name: synthetic-lesions}\nalocator: {name: knapsack}\n")
    out = fairquant("run", "bad.yaml")
    assert out.returncode == 2
    assert (
        "fairquant: error: 1 problem(s) in bad.yaml\n  bad.yaml:2: alocator: unknown key. Did you mean 'allocator'?"
        in out.stderr
    )
    assert "Traceback" not in out.stderr


def test_missing_data_say_what_to_do():
    out = fairquant("run", "recipes/fitz_deit.yaml")
    assert out.returncode == 2
    assert "lacks fitzpatrick17k.csv, images" in out.stderr
    assert "--demo" in out.stderr
    assert fairquant("validate", "recipes/fitz_deit.yaml").returncode == 2


def test_offline_weights_say_what_to_do(monkeypatch):
    import timm

    from fairquant.errors import UserError
    from fairquant.runs.models import build_model
    from fairquant.recipe.sections import ModelSettings

    def offline(*_, pretrained=False, **__):
        raise OSError("cannot reach the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"cannot be fetched .*set model.weights=FILE; or set model.pretrained=false"):
        build_model(ModelSettings(name="resnet18", pretrained=True), 3)


def test_show_validate_recipes_copy():
    assert "name: minimax" in fairquant("show", "quickstart").stdout
    assert "in order" in fairquant("validate", "recipes/quickstart.yaml").stdout
    listed = fairquant("recipes").stdout
    assert "recipes/isic_resnet18.yaml" in listed
    assert "fq-baq" in listed
    assert fairquant("recipes", "copy", "quickstart", "mine.yaml").returncode == 0
    assert Path("mine.yaml").read_text().startswith("# Synthetic")
    again = fairquant("recipes", "copy", "quickstart", "mine.yaml")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_demo_runs_anywhere_and_says_so_in_every_output():
    out = fairquant("run", "recipes/fitz_deit.yaml", "--demo", "tracking.mlflow=null")
    assert out.returncode == 0, out.stderr
    assert "DEMO" in out.stdout
    assert "DEMO" in out.stderr
    folder = next(Path("runs/fitz_deit-demo").iterdir())
    for name in ("report.html", "report.json", "log.txt"):
        assert "DEMO" in (folder / name).read_text()
    shown = fairquant("show", str(folder))
    assert "bits " in shown.stdout


def test_a_broken_plugin_is_named_and_skipped():
    from importlib.metadata import EntryPoint

    from fairquant.registry import discover

    points = [
        EntryPoint("broken", "no_such_module_anywhere", "fairquant"),
        EntryPoint("fair", "fairquant_fair.plugin", "fairquant"),
        EntryPoint("again", "fairquant_fair.plugin", "fairquant"),
    ]
    found = discover(points)
    assert "minimax" in found.registry.names("allocator")
    assert len(found.problems) == 2
    assert any("plugin 'broken'" in problem for problem in found.problems)


def test_ui_opens_the_store_that_the_recipe_names(tmp_path):
    from fairquant.cli.ui import store_of
    from fairquant.errors import UserError

    recipe = tmp_path / "mine.yaml"
    recipe.write_text("dataset: {name: synthetic-lesions}\ntracking: {mlflow: 'sqlite:///elsewhere.db'}\n")
    assert store_of(str(recipe)) == "sqlite:///elsewhere.db"
    assert store_of(None) == "sqlite:///mlflow.db"
    recipe.write_text("dataset: {name: synthetic-lesions}\ntracking: {mlflow: null}\n")
    with pytest.raises(UserError, match="its runs are not tracked"):
        store_of(str(recipe))
