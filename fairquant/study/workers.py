"""What a worker process does first: keep to its cores, and end when the process that started it does."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time


def init_worker(threads: int) -> None:
    """threads: workers side by side with all cores each would wait for one another."""
    import torch

    torch.set_num_threads(threads)
    follow_parent()


def follow_parent() -> None:
    """The parent is asked for by the number that it gave when it started this process: it may be gone by now."""
    parent = multiprocessing.parent_process()
    number = os.getppid() if parent is None or parent.pid is None else parent.pid
    threading.Thread(target=_follow, args=(number,), daemon=True).start()


def _follow(parent: int) -> None:
    """A killed parent cannot say goodbye: without this its workers would go on by themselves."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
