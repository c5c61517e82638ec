"""The cells of a comparison, method x budget x seed, and running them, several at once, resumably."""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

from fairquant.api import RunResult, run
from fairquant.errors import Infeasible, Terminated, UserError
from fairquant.recipe.presets import UNTRAINED, Library, library
from fairquant.report.comparison import Cell, Outcome, Subject
from fairquant.runs.folder import Display
from fairquant.signals import blocked, terminating, undisturbed
from fairquant.study.workers import end, init_manager, init_worker

#: Shown first in tables, in this order; other methods follow by name.
ORDER = ("fp32", "uniform-8", "uniform-4", "uniform-3", "uniform-2", "uniform-1", "fq-qat", "fq-block", "fq-baq")


#: The methods of the FairQuant paper's tables (arXiv 2602.23192).
PAPER = ("fp32", "uniform-8", "uniform-4", "fairgrape", "fairquantize", "hawq", "fq-qat", "fq-baq")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all cells share: overrides of their recipes, and where runs go."""

    overrides: tuple[str, ...]
    demo: bool
    runs: Path


def chosen_methods(text: str, shelf: Library | None = None) -> tuple[str, ...]:
    """ "all", or names with commas; UserError on unknown ones. Of methods that differ only in how they train,
    "all" takes one `-ptq`. "paper": those of the FairQuant paper's tables."""
    shelf = library() if shelf is None else shelf
    text = ",".join(PAPER) if text == "paper" else text
    if text == "all":
        first: dict[str, str] = {}  # what an untrained method does -> the first that does it
        chosen = []
        for name in sorted(shelf.method_names(), key=_place):
            content = json.dumps(shelf.load_method(name), sort_keys=True)
            if not name.endswith(UNTRAINED) or first.setdefault(content, name) == name:
                chosen.append(name)
        return tuple(chosen)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        shelf.load_method(name)
    if not names:
        raise UserError("no methods: name some, with commas, or all")
    return tuple(dict.fromkeys(names))


def _place(name: str) -> tuple[int, str, bool]:
    base = name.removesuffix(UNTRAINED)
    return ORDER.index(base) if base in ORDER else len(ORDER), base, base != name


def make_cells(
    subjects: Sequence[Subject], methods: Sequence[str], budgets: Sequence[float], seeds: Sequence[int], shelf: Library | None = None
) -> list[Cell]:  # fmt: skip
    """Seed by seed, so that the first results compare all methods. A method with bits of its own appears once a seed."""
    shelf = library() if shelf is None else shelf
    rows: list[tuple[str, float | None]] = []
    for method in methods:
        preset = shelf.load_method(method)
        own = "budget" in preset or preset.get("quantizer", "?") is None or not budgets
        rows += [(method, None)] if own else [(method, budget) for budget in budgets]
    return [Cell(subject, method, budget, seed) for seed in seeds for subject in subjects for method, budget in rows]


def run_cells(
    cells: Sequence[Cell], job: Job, jobs: int, displays: Callable[[Cell], Display], on_done: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run every cell that is not finished yet; one that fails is recorded and the others go on. In the cells' order."""
    if jobs <= 1:
        outcomes = []
        for cell in cells:
            outcomes.append(run_cell(cell, job, displays(cell)))
            on_done(outcomes[-1])
        return outcomes
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    with blocked():
        manager.start(init_manager)
    with manager:
        messages = manager.Queue()
        threads = max((os.cpu_count() or 1) // jobs, 1)
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for the workers, which read it when they start
        with ProcessPoolExecutor(jobs, context, init_worker, (threads,)) as pool:
            with blocked():  # what it starts
                running = {pool.submit(_in_worker, n, cell, job, messages): n for n, cell in enumerate(cells)}
            relay = _Relay(messages=messages, displays=[None] * len(cells), cells=cells, make=displays)
            try:
                return _collect(cells, running, relay, on_done)
            except (KeyboardInterrupt, Terminated, EOFError, ConnectionResetError, ConnectionRefusedError) as stop:
                with undisturbed():
                    end(list((pool._processes or {}).values()))
                    pool.shutdown(cancel_futures=True)
                if isinstance(stop, KeyboardInterrupt | Terminated):
                    raise
                raise UserError(
                    "the process that passes the workers' messages on has ended. The same command resumes"
                ) from stop


def _collect(
    cells: Sequence[Cell], running: dict[Future[Outcome], int], relay: _Relay, on_done: Callable[[Outcome], None]
) -> list[Outcome]:
    """Outcomes in the cells' order, their messages passed on while they run."""
    done: dict[int, Outcome] = {}
    while len(done) < len(cells):
        relay.pass_on()
        for future in [future for future in running if future.done()]:
            number = running.pop(future)
            died = future.exception()  # the process itself: killed, or out of memory
            done[number] = (
                future.result() if died is None else
                Outcome(cells[number], None, None, f"its process ended: {type(died).__name__}: {died}")
            )  # fmt: skip
            on_done(done[number])
    return [done[number] for number in range(len(cells))]


def run_cell(cell: Cell, job: Job, display: Display) -> Outcome:
    """One run; what goes wrong with it is its outcome, and the other cells go on."""
    try:
        result = finish_cell(cell, job, display)
    except Infeasible as error:
        return Outcome(cell, None, None, f"cannot meet the budget: {error}")
    except UserError as error:
        return Outcome(cell, None, None, error.render())
    except OSError as error:
        return Outcome(
            cell, None, None, f"{error.filename or job.runs}: {error.strerror or error}. The run can be resumed"
        )
    except Exception as error:
        return Outcome(cell, None, None, f"{type(error).__name__}: {error}")
    return Outcome(cell, result.folder, result.report)


def finish_cell(cell: Cell, job: Job, display: Display) -> RunResult:
    """The cell's run, which another process may have finished or work on now."""
    given = (*job.overrides, *cell.overrides)
    return run(cell.subject.recipe, *given, demo=job.demo, runs=job.runs, display=display, wait=True)


class _Sender:
    """A worker's display: everything goes to the queue."""

    def __init__(self, number: int, messages: Any) -> None:
        self.number, self.messages = number, messages

    def bar(self, what: str, total: int) -> Callable[[int], None]:
        self.messages.put((self.number, "bar", what, total))
        return lambda steps: self.messages.put((self.number, "advance", what, steps))

    def say(self, text: str) -> None:
        self.messages.put((self.number, "say", text, 0))


def _in_worker(number: int, cell: Cell, job: Job, messages: Any) -> Outcome:
    with terminating():
        return run_cell(cell, job, _Sender(number, messages))


@dataclass(kw_only=True)
class _Relay:
    """Passes the workers' messages on to displays here."""

    messages: Any
    displays: list[Display | None]
    cells: Sequence[Cell]
    make: Callable[[Cell], Display]
    bars: dict[tuple[int, str], Callable[[int], None]] = field(default_factory=dict)

    def pass_on(self, seconds: float = 0.2) -> None:
        """Everything that has come in; waits a little where nothing has."""
        try:
            message = self.messages.get(timeout=seconds)
            while True:
                number, kind, text, count = message
                display = self.displays[number]
                if display is None:
                    display = self.displays[number] = self.make(self.cells[number])
                if kind == "say":
                    display.say(text)
                elif kind == "bar":
                    self.bars[number, text] = display.bar(text, count)
                else:
                    self.bars[number, text](count)
                message = self.messages.get_nowait()
        except queue.Empty:
            return
