"""Posts `{"text": ...}` to the address in FAIRQUANT_WEBHOOK when a run or a comparison ends. Without it: silent.

What it raises costs the run a warning and nothing else.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairquant.registry import hookimpl

FAIRQUANT_CONTRACT = 1
SECONDS = 5.0


def post(text: str) -> None:
    """The message in the form that Slack, Mattermost and others take."""
    address = os.environ.get("FAIRQUANT_WEBHOOK")
    if address:
        body = json.dumps({"text": text}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=SECONDS).close()


@hookimpl
def fairquant_run_finished(run: Any, report: Mapping[str, Any]) -> None:
    worst = report["metrics"].get("worst-group-accuracy", {}).get("value")
    shown = "" if worst is None else f", worst group {worst:.3f}"
    post(f"{run.name}: {report['bits']['average']:.2f} bits{shown}")


@hookimpl
def fairquant_run_failed(run: Any, error: BaseException) -> None:
    post(f"{run.name} stopped: {type(error).__name__}: {error}")


@hookimpl
def fairquant_comparison_finished(comparison: Any, folders: Sequence[Path]) -> None:
    post(f"comparison {comparison.name}: {len(folders)} runs, {comparison.folder / 'compare.html'}")
