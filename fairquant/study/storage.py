"""Where a study's trials are kept: a journal file by default, or a database that many machines share."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairquant.errors import UserError
from fairquant.recipe.search import Search


def open_storage(url: str | None, folder: Path, heartbeat: int = 10, grace: int = 30) -> Any:
    """url: a database (postgresql://...), or None for a journal in the study's folder, which a shared disk may hold.

    In a database every running trial gives a sign of life; one that stops is handed to another worker. Raises
    UserError where it cannot be reached.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # what a trial says is in its own record
    import warnings

    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if url is None:
        from optuna.storages.journal import JournalFileBackend

        folder.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(folder / "journal.log"))
        return optuna.storages.JournalStorage(backend)
    try:
        return optuna.storages.RDBStorage(
            url, heartbeat_interval=heartbeat, grace_period=grace, engine_kwargs={"pool_pre_ping": True},
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3),
        )  # fmt: skip
    except ImportError as error:
        raise UserError(
            f"--storage {_without_password(url)}: its driver is missing ({error}). "
            'For PostgreSQL: pip install "fairquant[postgresql]"'
        ) from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--storage {_without_password(url)}: cannot be reached: {reason}") from error


def _without_password(url: str) -> str:
    import re

    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:...@", url)


def open_study(storage: Any, name: str, search: Search, seed: int) -> Any:
    """The study in its storage, made where it is missing, with its sampler and pruner."""
    import optuna

    samplers: dict[str, Callable[[], Any]] = {
        # 5 trials at random, not 10: better after 20 trials (docs/benchmarks.md); workers side by side keep apart
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "grid": lambda: optuna.samplers.RandomSampler(seed=seed),  # its points are enqueued one by one
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=seed),
    }
    pruners: dict[str, Callable[[], Any]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "successive-halving": optuna.pruners.SuccessiveHalvingPruner,
    }
    return optuna.create_study(
        storage=storage, study_name=name, sampler=samplers[search.sampler](), pruner=pruners[search.pruner](),
        directions=[objective.direction for objective in search.objectives], load_if_exists=True,
    )  # fmt: skip


@contextmanager
def at_work(folder: Path) -> Iterator[bool]:
    """Held by every worker on this machine; yields whether there was no other when it began."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".workers", "a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield alone


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """For setting a study up: workers on one disk do it one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".setup", "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
