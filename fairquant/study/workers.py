"""What a worker process does first: limit its threads, follow its parent process, and leave signals to it."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from fairquant.signals import ignore, leave_at_once

SAVING = 30.0


def init_worker(threads: int) -> None:
    """threads: workers side by side with all cores each would wait for one another."""
    import torch

    torch.set_num_threads(threads)
    leave_at_once()
    follow_parent()


def init_manager() -> None:
    """For the process that passes messages on: it ends when its parent says so, or is gone."""
    ignore()
    follow_parent()


def end(workers: Sequence[BaseProcess]) -> None:
    """Ask workers to save and end; those that have not after `SAVING` seconds are killed."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + SAVING
    for worker in workers:
        worker.join(max(deadline - time.monotonic(), 0.0))
        if worker.is_alive():
            worker.kill()


def follow_parent() -> None:
    """End this process when its parent ends. The parent may be gone already: its number comes from multiprocessing."""
    parent = multiprocessing.parent_process()
    number = os.getppid() if parent is None or parent.pid is None else parent.pid
    threading.Thread(target=_follow, args=(number,), daemon=True).start()


def _follow(parent: int) -> None:
    """A killed parent cannot stop its workers: they watch it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
