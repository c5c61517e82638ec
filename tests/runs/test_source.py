"""What code a result depends on: every file of a plugin, what it imports, and a caller's own network."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch
from torch import nn

from fairquant.runs.source import network_digest, source_digest


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A package, a package without __init__.py, and a module with another one that it imports a number from."""
    files = {
        "with_init/__init__.py": "", "with_init/m.py": "X = 1\n", "with_init/table.txt": "0.25", "without_init/m.py": "X = 1\n",
        "alone.py": "import json\nfrom helping_it import VALUE\n", "helping_it.py": "VALUE = 1\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = ("with_init.m", "without_init.m", "alone")
    for name in modules:
        importlib.import_module(name)
    yield tmp_path
    for name in (*modules, "helping_it", "with_init", "without_init"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("with_init.m", "with_init/m.py"), ("with_init.m", "with_init/table.txt"), ("without_init.m", "without_init/m.py"),
        ("alone", "alone.py"), ("alone", "helping_it.py"),
    ],
)  # fmt: skip
def test_every_file_counts(site, module, file):
    before = source_digest(module)
    assert before
    assert source_digest(module) == before
    (site / file).write_text((site / file).read_text() + "\n# changed")
    assert source_digest(module) != before


def test_what_python_writes_does_not_count(site):
    before = source_digest("with_init.m")
    (site / "with_init" / "__pycache__").mkdir(exist_ok=True)
    (site / "with_init" / "__pycache__" / "m.cpython-399.pyc").write_bytes(b"x")
    assert source_digest("with_init.m") == before


@pytest.mark.parametrize("file", ["runs/a/report.json", "mlflow.db", ".venv/x.py", "mlruns/0/meta.yaml"])
def test_results_in_the_packages_folder_do_not_count(site, file):
    """A run would never be finished, nor be resumed."""
    before = source_digest("with_init.m")
    (site / "with_init" / file).parent.mkdir(parents=True, exist_ok=True)
    (site / "with_init" / file).write_text("x")
    assert source_digest("with_init.m") == before


def test_a_package_that_is_not_there_has_no_digest():
    assert source_digest("no_such_package") == ""


class Leaky(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.layer, self._slope, self.mask = nn.Linear(3, 2), slope, torch.ones(2)

    def forward(self, x):
        return torch.nn.functional.leaky_relu(self.layer(x), self._slope) * self.mask


def test_attributes_of_a_network_count_and_training_mode_does_not():
    network = Leaky(0.1)
    before = network_digest(network)
    assert network_digest(Leaky(0.1).eval()) == before
    assert network_digest(Leaky(0.2)) != before
    network.mask[0] = 0
    assert network_digest(network) != before


SCRIPT = """
import torch
from torch import nn
from fairquant.runs.source import network_digest
SLOPE = {slope}
weight = {other}  # also the name of an attribute that is used below
def helper(x):
    return x {sign} 1
class Net(nn.Module):
    def forward(self, x):
        return helper(x) * SLOPE + self.weight
print(network_digest(Net()){rest})
"""


def test_the_code_of_a_script_counts_where_the_network_uses_it(tmp_path):
    def digest(slope: float = 0.1, sign: str = "+", rest: str = "", other: int = 0) -> str:
        (tmp_path / "s.py").write_text(SCRIPT.format(slope=slope, sign=sign, rest=rest, other=other))
        return subprocess.run(
            [sys.executable, "s.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    before = digest()
    assert len(before) == 64
    assert digest(rest=", end=''") == before
    assert digest(other=1) == before
    assert digest(sign="-") != before
    assert digest(slope=0.2) != before
