"""Posts `{"text": ...}` to the address in FAIRQUANT_WEBHOOK when a run or a comparison ends; does nothing where it is unset.

An exception raised here causes a warning and does not affect the run.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairquant.registry import hookimpl

if TYPE_CHECKING:
    from fairquant.recipe.events import ComparisonInfo, Report, RunInfo

FAIRQUANT_CONTRACT = 1
TIMEOUT = 5.0  # seconds


def post(text: str) -> None:
    """Send a message in the format that Slack, Mattermost and others accept."""
    address = os.environ.get("FAIRQUANT_WEBHOOK")
    if address:
        body = json.dumps({"text": text}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=TIMEOUT).close()


@hookimpl
def fairquant_run_finished(run: RunInfo, report: Report) -> None:
    metric = report["metrics"].get("worst-group-accuracy")
    worst = None if metric is None else metric["value"]
    shown = "" if worst is None else f", worst group {worst:.3f}"
    post(f"{run.name}: {report['bits']['average']:.2f} bits{shown}")


@hookimpl
def fairquant_run_failed(run: RunInfo, error: BaseException) -> None:
    post(f"{run.name} stopped: {type(error).__name__}: {error}")


@hookimpl
def fairquant_comparison_finished(comparison: ComparisonInfo, folders: Sequence[Path]) -> None:
    post(f"comparison {comparison.name}: {len(folders)} runs, {comparison.folder / 'compare.html'}")
