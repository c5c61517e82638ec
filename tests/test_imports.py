"""What importing the package costs and needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fairquant


def python(code: str) -> str:
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("module", ["fairquant", "fairquant.cli", "fairquant.recipe", "fairquant.registry"])
def test_nothing_heavy_is_imported_before_it_is_needed(module):
    loaded = python(
        f"import sys, {module}; print([m for m in ('torch', 'timm', 'mlflow', 'optuna') if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_public_names_are_listed_and_there():
    assert dir(fairquant) == fairquant.__all__
    assert all(callable(getattr(fairquant, name)) for name in fairquant.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="has no attribute 'quantise'"):
        fairquant.quantise  # noqa: B018


def test_the_package_imports_and_locks_without_fcntl(tmp_path):
    """As on Windows, which has no fcntl."""
    python(f"""
import sys
sys.modules["fcntl"] = None
from pathlib import Path
import fairquant.api, fairquant.study, fairquant.cli
from fairquant.files import folder_lock
from fairquant.study.storage import worker_lock
with folder_lock(Path({str(tmp_path)!r}), blocking=False), worker_lock(Path({str(tmp_path)!r})) as alone:
    assert alone
""")
