"""Docs stay true: every `$` command in a console block is run and its shown output found; every python block runs.

`...` stands for anything. The two pip commands of the README are what .ci/run executes.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import REPOSITORY
from PIL import Image

from fairquant.cli import main

GENERATED = sorted((REPOSITORY / "docs" / "reference").glob("*.md"))
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), *GENERATED]
NOT_OURS = "not run by tests"  # a page's own mark for commands that need hours or real data

#: What the README's `from mine import ...` stands for.
MINE = """
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
draw = torch.Generator().manual_seed(0)
train, validation, test = (
    [(torch.randn(3, 12, 12, generator=draw), i % 2, i // 2 % 2) for i in range(n)] for n in (64, 32, 32)
)
"""


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)


def some_images(folder: Path) -> None:
    """What pages call IMAGES."""
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}


def output_of(command: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command prints. Ours runs in this process (another one would first spend seconds on its imports), a line that
    needs a shell in a shell."""
    arguments = shlex.split(command)
    if arguments[0] != "fairquant" or set(command) & set("|&;<>$"):
        process = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment(), timeout=300)
        return process.stdout + process.stderr
    monkeypatch.setattr(sys, "argv", [each for word in arguments for each in sorted(glob.glob(word)) or [word]])
    monkeypatch.setenv("COLUMNS", "200")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), contextlib.suppress(SystemExit):
        main()
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_console_blocks(page, monkeypatch):
    some_images(Path("IMAGES"))
    for block in blocks(page, "console"):
        if NOT_OURS in block:
            continue
        for command_block in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = command_block.partition("\n")
            output = output_of(command.replace("\\\n", " "), monkeypatch)
            lines = [re.escape(line.rstrip()).replace(r"\.\.\.", ".*") for line in shown.strip().splitlines()]
            pattern = r"\s*\n\s*".join(lines)
            assert re.search(pattern, output, re.DOTALL), f"{page.name}: $ {command}\nshown:\n{shown}\ngiven:\n{output}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks(page, monkeypatch):
    Path("mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(".")
    monkeypatch.setattr(sys, "argv", ["block.py"])
    for number, block in enumerate(blocks(page, "python")):
        script = Path(f"block{number}.py")
        script.write_text(block)
        runpy.run_path(str(script), run_name="__main__")
    sys.modules.pop("mine", None)


def test_ci_runs_the_readmes_two_commands():
    commands = [block.strip() for block in blocks(REPOSITORY / "README.md", "bash") if "venv" in block]
    script = (REPOSITORY / ".ci" / "run").read_text().replace("pip install -q", "pip install")
    assert len(commands) == 2
    assert all(command in script for command in commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_reference_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("generate", REPOSITORY / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    written = {page.name: page.read_text() for page in GENERATED}
    assert generate.pages() == written, "run: python docs/generate.py"


def test_every_component_has_its_line_in_the_docs(registry):
    text = "".join(page.read_text() for page in PAGES if page not in GENERATED)
    missing = [f"{entry.role} {entry.name}" for entry in registry.entries() if f"`{entry.name}`" not in text]
    assert not missing


def test_the_metric_of_the_plugins_page_works(tmp_path, monkeypatch):
    code = blocks(REPOSITORY / "docs" / "plugins.md", "python")
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "metric.py").write_text(code[0])
    (package / "plugin.py").write_text(code[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    from importlib.metadata import EntryPoint

    from fairquant.registry import discover
    from fairquant.roles import Confusion

    plugins = discover([EntryPoint("my-package", "my_package.plugin", "fairquant")])
    assert not plugins.problems
    metric = plugins.registry.load("metric", "jain-index")()
    even = np.stack([np.diag([3.0, 3.0]), np.diag([5.0, 5.0])])
    assert float(metric.evaluate(Confusion(even)).value) == pytest.approx(1)
    uneven = np.stack([np.diag([3.0, 3.0]), np.diag([5.0, 5.0])[::-1]])
    assert float(metric.evaluate(Confusion(uneven)).value) == pytest.approx(0.5)
