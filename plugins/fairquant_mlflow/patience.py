"""A tracking server that hangs or answers drop by drop holds a run for seconds, not for minutes, and not after every epoch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

#: Seconds that a run waits for its start, an epoch and its results to be logged.
START, EPOCH, RESULTS = 30.0, 10.0, 300.0
#: In a run's checkpoints: the server was too slow, and epochs are not logged any more.
SLOW = Path("checkpoints") / "mlflow-slow"


def within(seconds: float, store: str, what: str, call: Callable[[], None]) -> None:
    """Do the call, in a thread of its own where the store is a server. Raises what it raises, and TimeoutError where it takes
    longer; it then goes on unheeded."""
    if not store.startswith(("http://", "https://")):
        call()
        return
    errors: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"MLflow at {store!r} has not taken {what} within {seconds:.0f} s")
    if errors:
        raise errors[0]


def is_slow(folder: Path) -> bool:
    return (folder / SLOW).exists()


def mark_slow(folder: Path) -> None:
    (folder / SLOW).parent.mkdir(parents=True, exist_ok=True)
    (folder / SLOW).touch()
