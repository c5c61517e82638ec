"""fairquant plugins: the list, one component in full, a new distribution."""

from __future__ import annotations

import re
import subprocess
import sys

from typer.testing import CliRunner

from fairquant.cli import app


def test_plugins_lists_everything_without_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from fairquant.cli import app; "
        "print(CliRunner().invoke(app, ['plugins']).output); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.endswith("False\n")
    assert "minimax" in out
    assert "fairquant 0." in out


def test_show_tells_options_docstring_and_source():
    shown = CliRunner().invoke(app, ["plugins", "show", "cvar"])
    assert shown.exit_code == 0
    for text in ("reducer cvar, of fairquant", "alpha                number", "0.5", "Rockafellar", "class Cvar:"):
        assert text in shown.output, text
    both = CliRunner().invoke(app, ["plugins", "show", "uniform"]).output
    assert "allocator uniform" in both
    assert "quantizer uniform" in both
    assert "absmax or mse or learned" in CliRunner().invoke(app, ["plugins", "show", "quantizer:uniform"]).output
    wrong = CliRunner().invoke(app, ["plugins", "show", "cvarr"])
    assert "no component is called 'cvarr'. Did you mean 'cvar'?" in str(wrong.exception)


def test_a_component_is_checked_by_its_name():
    result = CliRunner().invoke(app, ["plugins", "--check", "reducer:max"])
    assert result.exit_code == 0, result.output
    assert re.match(r"ok     reducer max \(fairquant .*\): (\d+) of \1 checks", result.output), result.output


def test_a_new_plugin_says_what_to_do_next(tmp_path):
    result = CliRunner().invoke(app, ["plugins", "new", "acme-metrics", "--role", "metric", "--to", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert f"pip install -e {tmp_path / 'acme-metrics'} && fairquant run recipes/quickstart.yaml" in result.output
    assert (tmp_path / "acme-metrics" / "pyproject.toml").is_file()
