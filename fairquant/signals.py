"""SIGINT, SIGTERM and SIGHUP: as exceptions for commands, and put off where state must not be torn."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType

from fairquant.errors import Terminated

#: What a cluster or a terminal that closes sends before it kills.
TERMINATING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


def terminate_by_exception() -> None:
    """From here on SIGTERM and SIGHUP raise Terminated in the main thread; those that are ignored (nohup) stay so."""
    if threading.current_thread() is threading.main_thread():
        for number in _heeded():
            signal.signal(number, _raise)


def _heeded() -> list[int]:
    """Those of TERMINATING that whoever started the process, such as nohup, does not want ignored."""
    return [number for number in TERMINATING if signal.getsignal(number) is not signal.SIG_IGN]


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(signal.Signals(number).name, number)


def ignore() -> dict[int, Handler]:
    """From here on none of these signals disturbs the process; what handled them before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *TERMINATING)}


@contextmanager
def undisturbed() -> Iterator[None]:
    """None of these signals disturbs the block, such as while workers are ended."""
    before = ignore()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_at_once() -> None:
    """For a worker process: SIGINT, which a terminal sends to all, is its parent's; the others end it without a word, since it has
    nothing to lose (see `terminating`)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in _heeded():
        signal.signal(number, lambda number, frame: os._exit(128 + number))
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, *TERMINATING})


@contextmanager
def terminating() -> Iterator[None]:
    """For a worker process that has work: SIGTERM and SIGHUP raise Terminated in the block, so that it is saved."""
    before: dict[int, Handler] = {}
    try:
        for number in _heeded():
            before[number] = signal.getsignal(number)  # first: a signal may arrive before the next line
            signal.signal(number, _raise)
        yield
    finally:
        _set(before)


def _set(handlers: Mapping[int, Handler]) -> None:
    """Set all handlers, also where a signal that the earlier ones raise arrives meanwhile; it takes effect after that."""
    arrived: Terminated | None = None
    while True:
        try:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            break
        except Terminated as stop:
            arrived = stop
    if arrived is not None:
        raise arrived


@dataclass
class Postponed:
    """A context in which signals wait until `deliver` is called, or the block ends; a second one is delivered at once."""

    waiting: list[int] = field(default_factory=list)
    _before: dict[int, Handler] = field(default_factory=dict)

    def __enter__(self) -> Postponed:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *TERMINATING):
                handler = signal.getsignal(number)
                if handler is not None and handler is not signal.SIG_IGN:  # None: set by other than Python
                    self._before[number] = handler
                    signal.signal(number, self._keep)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if kind is None:
            self._raise_waiting()

    def deliver(self) -> None:
        """Let what has arrived take effect."""
        before = dict(self._before)
        self._restore()
        self._raise_waiting()
        self._before = before
        for number in before:
            signal.signal(number, self._keep)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self.waiting.append(number)
        if len(self.waiting) > 1:
            self.deliver()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _raise_waiting(self) -> None:
        waiting, self.waiting = self.waiting, []
        for number in waiting[:1]:
            signal.raise_signal(number)


@contextmanager
def blocked() -> Iterator[None]:
    """Signals wait until the end of the block; in processes that are started in it, which inherit that they are blocked, until
    `leave_at_once`."""
    with Postponed():  # a signal may reach another thread, which does not block it
        if not hasattr(signal, "pthread_sigmask"):
            yield
            return
        from multiprocessing import resource_tracker

        wanted = {signal.SIGINT, *TERMINATING}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        try:
            # Python starts its resource tracker with the first process. It ignores SIGINT and SIGTERM, which are unblocked by
            # that; SIGHUP would end it, and stays blocked in it.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
