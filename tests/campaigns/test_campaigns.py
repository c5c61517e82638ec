"""The campaigns in short form; each says its seed and can be run for longer by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "arguments",
    [
        ["kill.py", "--what", "runs", "--rounds", "3"], ["kill.py", "--what", "studies", "--rounds", "4"],
        ["kill.py", "--what", "exports", "--rounds", "1"], ["kill.py", "--what", "comparisons", "--rounds", "2"],
        ["signals.py", "--what", "runs", "--rounds", "2"], ["disk.py", "--rounds", "7"],
        ["changes.py", "--what", "changes", "--rounds", "8"], ["changes.py", "--what", "caches", "--rounds", "3"], ["files.py", "--what", "files", "--rounds", "60"], ["files.py", "--what", "recipes", "--rounds", "76"], ["plugins.py", "--rounds", "12"],
    ],
    ids=lambda arguments: " ".join(arguments),
)  # fmt: skip
def test_a_campaign_in_short_form_holds(arguments):
    done = subprocess.run(
        [sys.executable, str(HERE / arguments[0]), *arguments[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "held" in done.stdout
