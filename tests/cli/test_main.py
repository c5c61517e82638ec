"""`python -m fairquant` and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from helpers.command import fairquant


def test_help_starts_at_once():
    fairquant("--help")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert "validate" in fairquant("--help").stdout
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


@pytest.mark.parametrize("module", ["fairquant", "fairquant.cli", "fairquant.recipe", "fairquant.registry"])
def test_the_command_line_does_not_import_torch(module):
    code = f"import {module}, sys; print([m for m in ('torch', 'mlflow', 'optuna', 'timm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
