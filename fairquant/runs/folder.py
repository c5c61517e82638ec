"""A run and its folder: one recipe, one seed; its log, stages and listeners; finished, resumable or busy."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fairquant.addresses import hidden_in
from fairquant.recipe.events import Report, RunInfo
from fairquant.recipe.schema import Recipe
from fairquant.registry import Plugins

if TYPE_CHECKING:
    from fairquant.roles import Splits


class Display(Protocol):
    """Where progress is shown. bar(what, total) returns advance(done steps)."""

    def bar(self, what: str, total: int) -> Callable[[int], None]: ...
    def say(self, text: str) -> None: ...


class Quiet:
    """Shows nothing."""

    def bar(self, what: str, total: int) -> Callable[[int], None]:
        return lambda steps: None

    def say(self, text: str) -> None:
        return None


def run_folder(recipe: Recipe, runs: Path) -> Path:
    """runs/<recipe>/<method>-seed<k>-<hash>, the hash of everything that can change the result."""
    demo = "-demo" if recipe.demo else ""
    return runs / f"{recipe.name}{demo}" / f"{recipe.method}-seed{recipe.seed}-{recipe.digest()}"


def default_runs() -> Path:
    """FAIRQUANT_RUNS, or runs/ in the current folder."""
    return Path(os.environ.get("FAIRQUANT_RUNS", "runs"))


def finished_report(folder: Path, name: str = "report.json") -> Report | None:
    """The report of a finished run, or None."""
    try:
        report: Report = json.loads((folder / name).read_text(encoding="utf-8"))
        return report
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class Run:
    """An open run: its data, what the pipeline writes to and reports through. identity: see `fairquant.runs.identity`."""

    recipe: Recipe
    folder: Path
    runs: Path
    plugins: Plugins
    splits: Splits
    identity: Mapping[str, str]
    display: Display = field(default_factory=Quiet)
    timings: dict[str, float] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    validation_only: bool = False  # stop before the test images are read, as the trials of a search do
    watch: Callable[[str, Mapping[str, float]], None] = lambda stage, values: None  # may stop the run by raising

    @property
    def info(self) -> RunInfo:
        return RunInfo(self.recipe, self.folder, self.folder.name)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; its start and end go to the log."""
        self.log(f"{name}: started")
        start = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - start
        self.log(f"{name}: {self.timings[name]:.1f} s")

    def log(self, text: str) -> None:
        """To the log, without the secrets of addresses in it."""
        _logger(self.folder).info(hidden_in(text))

    def say(self, text: str) -> None:
        """To the log, the screen and the report's notes."""
        self.log(text)
        self.display.say(text)
        if text not in self.messages:
            self.messages.append(text)

    def tell(self, text: str) -> None:
        """To the log and the screen: nothing that belongs to the result."""
        self.log(text)
        self.display.say(text)

    def steps(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) that moves a progress bar."""
        advance: Callable[[int], None] | None = None
        last = 0

        def on_step(done: int, total: int) -> None:
            nonlocal advance, last
            if advance is None:
                advance = self.display.bar(what, total)
            advance(done - last)
            last = done

        return on_step

    def epoch(self, stage: str, epoch: int, values: Mapping[str, float]) -> None:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        self.log(f"{stage} epoch {epoch}: {shown}")
        self.notify("fairquant_epoch_finished", stage=stage, epoch=epoch, values=values)
        self.watch(stage, values)

    def notify(self, event: str, **values: object) -> None:
        """Call the listeners; one that fails costs a warning."""
        from fairquant.runs.process_state import ProcessState  # finished runs are listed without torch

        for warning in self.plugins.notify_watched(event, {"run": self.info, **values}, ProcessState().undo):
            self.tell(f"warning: {hidden_in(warning)}")


def _logger(folder: Path) -> logging.Logger:
    return logging.getLogger(f"fairquant.run.{folder.name}")


class _LogFile(logging.FileHandler):
    """A log that cannot be written any more, as on a full disk, neither stops a run nor prints a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def log_file(folder: Path) -> Iterator[None]:
    """log.txt of the folder, appended to."""
    logger = _logger(folder)
    handler = _LogFile(folder / "log.txt", encoding="utf-8", errors="surrogateescape")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def versions(plugins: Plugins) -> dict[str, str]:
    """Versions of everything that can change a number."""
    installed = {"python": platform.python_version()}
    for name in ("fairquant", "torch", "torchvision", "timm", "numpy", "scipy"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "?"
    return installed | plugins.versions()


def versions_key(plugins: Plugins) -> str:
    """A short name of these versions, for caches that depend on them."""
    return hashlib.sha256(json.dumps(versions(plugins), sort_keys=True).encode()).hexdigest()[:12]


def other_versions(report: Report, plugins: Plugins) -> str:
    """Where a finished report was made by other versions than are here, such as `torch 2.1 (now 2.2)`; else empty."""
    here = versions(plugins)
    made: Mapping[str, str] = report.get("versions", {})
    return ", ".join(
        f"{name} {made[name]} (now {here[name]})" for name in here if made.get(name, here[name]) != here[name]
    )
