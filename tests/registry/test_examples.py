"""The outside distributions of docs/examples: built, installed from their wheels, checked and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from helpers import REPOSITORY

EXAMPLES = REPOSITORY / "docs" / "examples"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Both distributions, as wheels, in a folder of their own."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip"]
    sources = [str(EXAMPLES / name) for name in ("fairquant-field", "fairquant-webhook")]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels), *sources]
    subprocess.run(build, check=True, capture_output=True)
    install = [*pip, "install", "-q", "--no-deps", "--target", str(target), *map(str, wheels.glob("*.whl"))]
    subprocess.run(install, check=True, capture_output=True)
    return target


def run(site: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), **more}
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, env=environment, timeout=300
    )


def test_they_keep_their_contract(site):
    process = run(site, "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "fairquant-field" / "tests"))
    assert process.returncode == 0, process.stdout
    assert "dataset ChestXray: 11 checks: 2 not applicable, 9 passed" in process.stdout
    assert "regularizer ClassMargin: 12 checks: 1 expected, 1 not applicable, 10 passed" in process.stdout


def test_their_recipe_and_method_are_listed_and_run(site):
    listed = run(site, "fairquant", "recipes").stdout
    assert "recipes/chest_xray.yaml" in listed
    assert "activation-qat" in listed
    missing = run(site, "fairquant", "run", "recipes/chest_xray.yaml")
    assert missing.returncode == 2
    assert "Get ChestX-ray14 from the NIH Clinical Center" in missing.stderr
    process = run(
        site, "fairquant", "run", "recipes/chest_xray.yaml", "--demo", "tracking.mlflow=null", "model.name=resnet10t",
        "allocator.name=size-aware", "allocator.megabytes=1.5", "quantizer.name=power-of-two", "quantize.choices=[0, 2, 3, 4, 5]",
        "regularizers=[class-margin]",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "jain-index" in process.stdout
    report = json.loads(next(Path("runs").rglob("report.json")).read_text())
    assert report["bits"]["weight_bytes"] <= 1.5e6
    assert report["versions"]["fairquant-field"] == "0.1.0"


class _Listening(BaseHTTPRequestHandler):
    texts: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def test_the_webhook_hears_how_runs_end_and_a_dead_one_costs_a_warning(site):
    server = HTTPServer(("127.0.0.1", 0), _Listening)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    small = ["--demo", "tracking.mlflow=null", "baseline.epochs=1", "dataset.images=80"]
    address = f"http://127.0.0.1:{server.server_port}/"
    try:
        good = run(site, "fairquant", "run", "quickstart", *small, "method=uniform-4-ptq", FAIRQUANT_WEBHOOK=address)
        assert good.returncode == 0, good.stderr
        bad = run(
            site, "fairquant", "run", "quickstart", *small, "method=fairquantize-ptq", "budget.average_bits=1",
            FAIRQUANT_WEBHOOK=address,
        )  # fmt: skip
        assert bad.returncode == 2
    finally:
        server.shutdown()
    assert "4.00 bits, worst group 0." in _Listening.texts[0]
    assert "stopped: Infeasible: 2 bits everywhere exceed the budget" in _Listening.texts[1]
    dead = run(
        site, "fairquant", "run", "quickstart", *small, "method=uniform-3-ptq", FAIRQUANT_WEBHOOK="http://127.0.0.1:9/"
    )
    assert dead.returncode == 0
    assert "warning: plugin 'webhook' failed in fairquant_run_finished: URLError" in dead.stderr
