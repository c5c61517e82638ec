"""Where a study's trials are kept: a journal file by default, or a database that many machines share."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import optuna
import optuna.storages._heartbeat
from filelock import FileLock, Timeout
from optuna.storages.journal import JournalFileBackend

from fairquant.addresses import scrubbed, without_secrets
from fairquant.errors import UserError
from fairquant.files import write_atomically
from fairquant.recipe.search import Search


def open_storage(url: str | None, folder: Path, heartbeat: int = 10, grace: int = 30) -> optuna.storages.BaseStorage:
    """url: a database (postgresql+psycopg://...), or None for a journal in the study's folder, which a shared disk may hold.

    In a database every running trial sends a heartbeat; when it stops, the trial goes back to the queue (`StaleTrials`). Raises
    UserError where it cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # what a trial says is in its own record
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used")  # a worker sends them itself
    if url is None:
        folder.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(folder / "journal.log"))
        return optuna.storages.JournalStorage(backend)
    try:
        return optuna.storages.RDBStorage(
            url, heartbeat_interval=heartbeat, grace_period=grace, engine_kwargs={"pool_pre_ping": True},
        )  # fmt: skip
    except ImportError as error:
        raise UserError(
            f"--storage {without_secrets(url)}: its driver is missing ({scrubbed(str(error), url)}). "
            'For PostgreSQL: pip install "fairquant[postgresql]"'
        ) from error
    except Exception as error:
        reason = scrubbed(str(error).strip().splitlines()[0], url)
        raise UserError(f"--storage {without_secrets(url)}: cannot be reached: {reason}") from None


def storage_errors() -> tuple[type[Exception], ...]:
    """What a database raises that has stopped, restarts or cannot be reached."""
    from sqlalchemy.exc import SQLAlchemyError

    return optuna.exceptions.StorageInternalError, SQLAlchemyError


@contextmanager
def quiet_heartbeats() -> Iterator[None]:
    """A heartbeat's thread that ends because the database does not answer prints nothing: the worker itself notices, and says so."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, storage_errors()):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def make_sampler(search: Search, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of the search, at its beginning."""
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        # 5 trials at random, not 10: better after 20 trials (docs/benchmarks.md); workers side by side keep apart
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "grid": lambda: optuna.samplers.RandomSampler(seed=seed),  # its points are enqueued one by one
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=seed),
    }
    return samplers[search.sampler]()


def open_study(storage: optuna.storages.BaseStorage, name: str, search: Search, seed: int) -> optuna.Study:
    """The study in its storage, made where it is missing, with its sampler and pruner."""
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "successive-halving": optuna.pruners.SuccessiveHalvingPruner,
    }
    return optuna.create_study(
        storage=storage, study_name=name, sampler=make_sampler(search, seed), pruner=pruners[search.pruner](),
        directions=[objective.direction for objective in search.objectives], load_if_exists=True,
    )  # fmt: skip


def return_to_queue(study: optuna.Study, numbers: Collection[int] | None = None) -> None:
    """Trials that nobody works on any more wait again, each under its own number and with the values that it has drawn.
    numbers: which of the running ones; None: all."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if numbers is None or trial.number in numbers:
            study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.WAITING)


@dataclass
class StaleTrials:
    """Trials in a database whose worker has given no sign of life for `grace` seconds. first_seen: number -> when a trial without
    any heartbeat was first seen running; optuna itself never calls such a trial stale, whose worker was killed between taking it
    and its first heartbeat."""

    grace: float
    first_seen: dict[int, float] = field(default_factory=dict)

    def return_to_queue(self, study: optuna.Study) -> None:
        storage = study._storage
        if not isinstance(storage, optuna.storages._heartbeat.BaseHeartbeat):
            return
        stale = set(storage._get_stale_trial_ids(study._study_id))
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        known, now = _with_heartbeat(storage), time.monotonic()
        silent = {trial.number for trial in running if trial._trial_id not in known}
        self.first_seen = {number: self.first_seen.get(number, now) for number in silent}
        numbers = {trial.number for trial in running if trial._trial_id in stale}
        numbers |= {number for number, since in self.first_seen.items() if now - since > self.grace}
        return_to_queue(study, numbers)


def _with_heartbeat(storage: optuna.storages.BaseStorage) -> set[int]:
    """The trials, by their keys in the database, that have had a heartbeat."""
    from optuna.storages._rdb.models import TrialHeartbeatModel
    from sqlalchemy import select

    database = getattr(storage, "_backend", storage)  # optuna puts a cache before it
    with database.engine.connect() as connection:
        return set(connection.execute(select(TrialHeartbeatModel.trial_id)).scalars())


def repair_journal(folder: Path) -> None:
    """Cut off a last line that a killed worker has not finished; nobody may be writing. UserError for a damaged line before it."""
    file = folder / "journal.log"
    if not file.is_file():
        return
    lines = file.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
            whole = line.endswith(b"\n")
        except ValueError:
            whole = False
        if whole:
            continue
        if number < len(lines):
            raise UserError(
                f"{file}:{number}: damaged. Remove the study's folder to begin anew: its runs are kept and not run again"
            )
        write_atomically(file, b"".join(lines[:-1]))


@contextmanager
def worker_lock(folder: Path) -> Iterator[bool]:
    """Held by every worker on this machine while it works; yields whether there was no other when it began.

    Each worker locks a file of its own, since a file lock that several hold is not available on every system. Files whose
    worker has ended are removed.
    """
    place = folder / ".workers"
    place.mkdir(parents=True, exist_ok=True)
    own = FileLock(place / f"{uuid4().hex}.lock")
    with FileLock(folder / ".workers-guard"):
        alone = not [file for file in place.glob("*.lock") if _is_held(file)]
        own.acquire()
    try:
        yield alone
    finally:
        own.release()
        Path(own.lock_file).unlink(missing_ok=True)


def _is_held(file: Path) -> bool:
    """Whether a worker still holds its file; a file that nobody holds is removed."""
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    file.unlink(missing_ok=True)
    return False


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Workers that share a disk set a study up one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".setup"):
        yield
