"""The command line in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def fairquant(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """python -m fairquant ARGUMENTS, with both streams as text."""
    return subprocess.run(
        [sys.executable, "-m", "fairquant", *arguments], capture_output=True, text=True, timeout=300, **options
    )
