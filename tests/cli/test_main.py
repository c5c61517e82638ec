"""`python -m fairquant` and what importing it costs."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from helpers.command import fairquant as command

import fairquant.cli
from fairquant.errors import UserError


def processor_seconds() -> float:
    """Of all processes that this one started: a busy machine does not add to it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_starts_at_once():
    command("--help")
    times = []
    for _ in range(5):
        start = processor_seconds()
        assert "validate" in command("--help").stdout
        times.append(processor_seconds() - start)
    assert min(times) < 0.5


@pytest.mark.parametrize("module", ["fairquant", "fairquant.cli", "fairquant.recipe", "fairquant.registry"])
def test_the_command_line_does_not_import_torch(module):
    code = f"import {module}, sys; print([m for m in ('torch', 'mlflow', 'optuna', 'timm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_users_mistake_is_its_text_and_exit_2_and_a_closed_pipe_is_no_mistake(monkeypatch, capsys):
    def fails(error):
        def verb():
            raise error

        return verb

    monkeypatch.setattr(fairquant.cli, "app", fails(UserError(["one", "two"], "a.yaml")))
    with pytest.raises(SystemExit) as caught:
        fairquant.cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "fairquant: error: 2 problem(s) in a.yaml\n  one\n  two\n"
    monkeypatch.setattr(fairquant.cli, "app", fails(BrokenPipeError()))
    with pytest.raises(SystemExit) as caught:
        fairquant.cli.main()
    assert caught.value.code == 0


def test_ctrl_c_while_the_command_line_is_imported_is_no_traceback():
    code = """
import sys
class Stop:
    def find_spec(self, name, *rest):
        if name == "fairquant.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
from fairquant.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "fairquant: stopped.\n")
