"""A queue of work that workers share, in an Optuna storage: each piece is done once; that of a dead worker is queued again."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread

from fairquant.addresses import scrubbed, without_secrets
from fairquant.errors import MachineFailed, Terminated, UserError
from fairquant.runs.folder import Display
from fairquant.signals import blocked, undisturbed
from fairquant.study.storage import StaleTrials, quiet_heartbeats, return_to_queue, storage_errors
from fairquant.study.workers import end

#: Seconds between a worker's signs of life in a database, and without one until its trial is handed on.
HEARTBEAT_SECONDS = (10, 30)
#: Times that workers are started for trials whose workers were killed.
ATTEMPTS = 3
OnTrial = Callable[[optuna.trial.FrozenTrial], None]


@dataclass(kw_only=True)
class Queue:
    """One worker's view of the queue.

    database: its address, or None for a journal in `folder`, which knows no heartbeat; patience: seconds to wait for a database that
    does not answer. perform(trial) does the work and returns the trial's values; what it raises fails the trial, but for errors of
    the machine and of the storage, after which the trial waits again. before(number): called before the trial is taken.
    """

    study: optuna.Study
    database: str | None
    folder: Path
    patience: float
    display: Display
    perform: Callable[[optuna.Trial], Sequence[float]]
    on_trial: OnTrial
    before: Callable[[int], None] = lambda number: None
    held: list[int] = field(default_factory=list)  # the trial that this worker has

    def work(self) -> None:
        """Take trials until none is left and no other worker's can return. UserError where a database does not answer for longer
        than the patience."""
        stale = StaleTrials(HEARTBEAT_SECONDS[1])
        lost: float | None = None  # since when the database does not answer
        while True:
            try:
                return_to_queue(self.study, self.held)
                self.held.clear()
                with quiet_heartbeats():
                    if not self._take(stale):
                        return
                lost = None
            except MachineFailed:
                with suppress(*storage_errors()):
                    return_to_queue(self.study, self.held)
                raise
            except storage_errors() as error:
                now = time.monotonic()
                lost = now if lost is None else lost
                self._wait(error, now - lost)

    def _take(self, stale: StaleTrials) -> bool:
        """Do the next trial, or wait a second for another worker's; whether there may be more."""
        beats = self.database is not None
        if beats:
            stale.return_to_queue(self.study)
        trials = self.study.get_trials(deepcopy=False)
        waiting = [trial.number for trial in trials if trial.state == optuna.trial.TrialState.WAITING]
        if not waiting:
            others = any(trial.state == optuna.trial.TrialState.RUNNING for trial in trials)
            if beats and others:
                time.sleep(1.0)  # another worker's: should it die, its trial comes back
            return beats and others
        self.before(min(waiting))
        trial = self.study.ask()
        self.held.append(trial.number)
        values, state = None, optuna.trial.TrialState.COMPLETE
        with get_heartbeat_thread(trial._trial_id, self.study._storage):
            try:
                values = self.perform(trial)
            except MachineFailed:
                raise
            except storage_errors():
                raise
            except optuna.TrialPruned:
                state = optuna.trial.TrialState.PRUNED
            except Exception:  # recorded with the trial
                state = optuna.trial.TrialState.FAIL
        self.on_trial(self.study.tell(trial, values, state=state))
        self.held.clear()
        return True

    def _wait(self, error: Exception, seconds: float) -> None:
        """Say once that the database does not answer, and wait a while. UserError after the patience."""
        address = self.database or str(self.folder / "journal.log")
        reason = scrubbed(next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__), address)
        if seconds >= self.patience:
            raise UserError(
                f"--storage {without_secrets(address)}: no answer for {seconds:.0f} s: {reason}. The same command goes on from here"
            ) from None
        if not seconds:
            self.display.say(f"warning: the storage does not answer ({reason}): waiting up to {self.patience:.0f} s")
        time.sleep(min(2.0, max(self.patience - seconds, 0.1)))


def side_by_side(
    study: optuna.Study, database: str | None, jobs: int, target: Callable[..., None], arguments: tuple[object, ...], on_trial: OnTrial
) -> None:  # fmt: skip
    """`jobs` processes that run target(*arguments, threads) on the same queue; this one waits for them, and starts others for trials
    whose workers were killed. UserError where that does not help."""
    for _ in range(ATTEMPTS):
        codes = _one_round(study, jobs, target, arguments, on_trial)
        if database is None:
            return_to_queue(study)  # no worker is left
        unfinished = [trial.number for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]
        if not unfinished or not any(codes):
            return
    raise UserError(
        f"{len(unfinished)} trial(s) are not finished: their workers ended with {', '.join(map(str, codes))} (-9: killed, perhaps for "
        "lack of memory: fewer --jobs). The same command goes on from here"
    )


def _one_round(
    study: optuna.Study, jobs: int, target: Callable[..., None], arguments: tuple[object, ...], on_trial: OnTrial
) -> list[int]:
    """Start workers and wait for them; their exit codes."""
    context = multiprocessing.get_context("spawn")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    threads = max((os.cpu_count() or 1) // jobs, 1)
    workers = [context.Process(target=target, args=(*arguments, threads)) for _ in range(jobs)]
    with blocked():
        for worker in workers:
            worker.start()
    reported = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    try:
        while True:
            alive = any(worker.is_alive() for worker in workers)
            with suppress(*storage_errors()):  # the workers wait for it, and say so
                for trial in study.get_trials(deepcopy=False):
                    if trial.state.is_finished() and trial.number not in reported:
                        reported.add(trial.number)
                        on_trial(trial)
            if not alive:
                return [worker.exitcode or 0 for worker in workers]
            time.sleep(0.5)
    except (KeyboardInterrupt, Terminated):
        with undisturbed():
            end(workers)
        raise
