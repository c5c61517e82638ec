"""The cells of a comparison in a database: workers on any number of machines take them from one queue, and each has all results."""

from __future__ import annotations

import base64
import json
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna

from fairquant.errors import Infeasible, MachineFailed, Terminated, UserError
from fairquant.files import write_atomically
from fairquant.report.comparison import Cell, Outcome
from fairquant.runs.folder import Display, Quiet, finished_report
from fairquant.signals import terminating
from fairquant.study import queue
from fairquant.study.grid import Job, finish_cell
from fairquant.study.queue import Queue, side_by_side
from fairquant.study.storage import open_storage
from fairquant.study.workers import init_worker

#: Of a run: what a comparison reads. Kept in the database, so that the machines need no disk in common.
FILES = ("report.json", "predictions.npz", "bit_plan.csv")
#: Attributes of a trial: which cell it is, how often that was tried before, why there is no result, whether that is final.
CELL, ATTEMPT, PROBLEM, FINAL = "cell", "attempt", "problem", "final"


@dataclass(frozen=True, kw_only=True)
class SharedGrid:
    """name: of the queue in the database, the same on every machine; folder: of the comparison here."""

    cells: tuple[Cell, ...]
    job: Job
    database: str
    name: str
    folder: Path
    patience: float

    def run(self, jobs: int, displays: Callable[[Cell], Display], on_done: Callable[[Outcome], None]) -> list[Outcome]:
        """Work on the queue with `jobs` processes until every cell is done, here or elsewhere; outcomes in the cells' order."""
        study = self._open()
        self._enqueue(study)

        def told(trial: optuna.trial.FrozenTrial) -> None:
            if (number := trial.user_attrs.get(CELL)) is not None:
                on_done(self._outcome(number, trial))

        if jobs > 1:
            side_by_side(study, self.database, jobs, work_here, (self,), told)
        else:
            self.work(displays, told)
        latest = self._latest(study)
        return [self._outcome(number, latest[number]) for number in range(len(self.cells))]

    def work(self, displays: Callable[[Cell], Display], on_trial: queue.OnTrial) -> None:
        """One worker, until the queue is empty."""
        study = self._open()

        def perform(trial: optuna.Trial) -> list[float]:
            number = trial.user_attrs[CELL]
            if self._latest(study)[number].number == trial.number:  # else another worker queued it at the same moment
                self._perform(trial, self.cells[number], displays(self.cells[number]))
            return [0.0]

        Queue(
            study=study, database=self.database, folder=self.folder, patience=self.patience, display=displays(self.cells[0]),
            perform=perform, on_trial=on_trial,
        ).work()  # fmt: skip

    def _open(self) -> optuna.Study:
        storage = open_storage(self.database, self.folder, *queue.HEARTBEAT_SECONDS)
        return optuna.create_study(storage=storage, study_name=self.name, load_if_exists=True)

    def _enqueue(self, study: optuna.Study) -> None:
        """Every cell that is not in the queue yet; once all are done, also those that failed for a reason that may have passed."""
        latest = self._latest(study)
        over = all(trial.state.is_finished() for trial in latest.values())
        for number in range(len(self.cells)):
            trial = latest.get(number)
            if trial is None:
                study.enqueue_trial({}, user_attrs={CELL: number, ATTEMPT: 0})
            elif over and trial.user_attrs.get(PROBLEM) and not trial.user_attrs.get(FINAL):
                study.enqueue_trial({}, user_attrs={CELL: number, ATTEMPT: trial.user_attrs[ATTEMPT] + 1})

    def _latest(self, study: optuna.Study) -> dict[int, optuna.trial.FrozenTrial]:
        """The trial that counts of each cell: of the last attempt, the first that was queued."""
        latest: dict[int, optuna.trial.FrozenTrial] = {}
        for trial in study.get_trials(deepcopy=False):
            number = trial.user_attrs.get(CELL)
            if number is None:
                continue
            known = latest.get(number)
            if known is None or trial.user_attrs[ATTEMPT] > known.user_attrs[ATTEMPT]:
                latest[number] = trial
        return latest

    def _perform(self, trial: optuna.Trial, cell: Cell, display: Display) -> None:
        """Run the cell, and keep its files, or what went wrong, with the trial."""
        trial.set_user_attr("worker", os.getpid())
        trial.set_user_attr(PROBLEM, "")  # of a worker that was killed after it had said one
        try:
            folder = finish_cell(cell, self.job, display).folder
        except MachineFailed:
            raise  # another worker may have a better machine
        except Infeasible as error:
            trial.set_user_attr(FINAL, True)
            trial.set_user_attr(PROBLEM, f"cannot meet the budget: {error}")
        except UserError as error:
            trial.set_user_attr(PROBLEM, error.render())
        except Exception as error:
            trial.set_user_attr(PROBLEM, f"{type(error).__name__}: {error}")
        else:
            for name in FILES:
                if (folder / name).is_file():
                    trial.set_user_attr(name, _packed((folder / name).read_bytes()))
            trial.set_user_attr("folder", str(folder))

    def _outcome(self, number: int, trial: optuna.trial.FrozenTrial) -> Outcome:
        """What became of a cell; its files are in its run's folder, or, where that is on another machine, in the comparison's."""
        cell, facts = self.cells[number], trial.user_attrs
        if facts.get(PROBLEM) or "folder" not in facts:
            return Outcome(cell, None, None, facts.get(PROBLEM) or "was not finished: the same command goes on")
        report = json.loads(_unpacked(facts[FILES[0]]))
        folder = Path(facts["folder"])
        if finished_report(folder) != report:
            folder = self._fetched(number, facts)
        return Outcome(cell, folder, report)

    def _fetched(self, number: int, facts: Mapping[str, str]) -> Path:
        folder = self.folder / "cells" / str(number)
        for name in FILES:
            if name in facts:
                write_atomically(folder / name, _unpacked(facts[name]))
        return folder


def work_here(grid: SharedGrid, threads: int) -> None:
    """One worker process."""
    init_worker(threads)
    try:
        with terminating():
            grid.work(lambda cell: Quiet(), lambda trial: None)
    except (KeyboardInterrupt, Terminated):
        os._exit(143)  # its cell goes back to the queue
    except UserError as error:
        print(f"fairquant: error: {error.render()}", file=sys.stderr)
        os._exit(2)


def _packed(content: bytes) -> str:
    """As text, which a database keeps in an attribute."""
    return base64.b64encode(zlib.compress(content)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
