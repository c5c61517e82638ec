"""Signals that wait while state must not be torn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from fairquant.errors import Terminated
from fairquant.signals import (
    TERMINATING,
    Postponed,
    blocked,
    ignore,
    terminate_by_exception,
    terminating,
    undisturbed,
)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", TERMINATING)
def test_a_signal_to_end_is_an_exception_with_its_name(number):
    terminate_by_exception()
    with pytest.raises(Terminated) as caught:
        send(number)
    assert (caught.value.name, caught.value.number) == (signal.Signals(number).name, number)


def test_signals_wait_until_they_are_delivered():
    terminate_by_exception()
    done = []

    def work() -> None:
        with Postponed() as signals:
            send(signal.SIGTERM)
            done.append("the step")
            assert signals.waiting == [signal.SIGTERM]
            signals.deliver()
            done.append("too much")

    with pytest.raises(Terminated):
        work()
    assert done == ["the step"]


def interrupted(times: int, done: list[int]) -> None:
    with Postponed():
        for number in range(times):
            send(signal.SIGINT)
            done.append(number)


def test_they_are_delivered_at_the_end_of_the_block_too():
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(1, done)
    assert done == [0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_does_not_wait():
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(2, done)
    assert done == [0]


def test_a_handler_that_does_nothing_lets_the_block_go_on():
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with Postponed() as signals:
        send(signal.SIGTERM)
        signals.deliver()
        send(signal.SIGTERM)
        assert signals.waiting == [signal.SIGTERM]
    assert seen == [signal.SIGTERM, signal.SIGTERM]


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    terminate_by_exception()
    with Postponed() as signals:
        send(signal.SIGTERM)
        assert not signals.waiting
    before = ignore()
    send(signal.SIGINT)
    for number, handler in before.items():
        signal.signal(number, handler)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_disturbs_the_end_of_workers():
    before = signal.getsignal(signal.SIGTERM)
    with undisturbed():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            send(number)
    assert signal.getsignal(signal.SIGTERM) is before


def test_blocked_signals_arrive_after_the_block_and_a_worker_saves_its_work():
    def work() -> None:
        with terminating(), blocked():
            send(signal.SIGTERM)
            arrived.append("in the block")

    arrived: list[str] = []
    with pytest.raises(Terminated, match="SIGTERM"):
        work()
    assert arrived == ["in the block"]


def test_signals_at_the_ends_of_the_block_leave_the_handlers_as_they_were(monkeypatch):
    """A signal arrives with each call that sets a handler."""
    real = signal.signal
    before = {number: signal.getsignal(number) for number in TERMINATING}

    def disturbed(number: int, handler: object) -> object:
        found = real(number, handler)
        for each in TERMINATING:
            if callable(signal.getsignal(each)):
                send(each)
                break
        return found

    monkeypatch.setattr(signal, "signal", disturbed)
    with pytest.raises(Terminated), terminating():
        pass
    assert {number: signal.getsignal(number) for number in TERMINATING} == before


def test_processes_that_are_started_in_the_block_inherit_that_signals_are_blocked():
    code = (
        "import multiprocessing, signal\nfrom fairquant.signals import blocked\n"
        "if __name__ == '__main__':\n    context = multiprocessing.get_context('spawn')\n    with blocked():\n"
        "        lock = context.Lock()\n        print(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def test_the_process_that_python_starts_with_the_first_worker_outlives_a_closed_terminal():
    """It would be started again, with a warning, and would print tracebacks about what the first one knew."""
    code = (
        "import multiprocessing, os, signal, time\nfrom fairquant.signals import blocked\n"
        "from multiprocessing.resource_tracker import _resource_tracker as tracker\n"
        "if __name__ == '__main__':\n    with blocked():\n        lock = multiprocessing.get_context('spawn').Lock()\n"
        "    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):\n        os.kill(tracker._pid, number)\n"
        "    time.sleep(0.5)\n    print(tracker._check_alive(), os.waitpid(tracker._pid, os.WNOHANG))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True (0, 0)\n", "")


def test_a_worker_without_work_leaves_at_once_and_leaves_ctrl_c_to_its_parent():
    code = (
        "import os, signal, sys\nfrom fairquant.signals import blocked, leave_at_once\n"
        "with blocked():\n    os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), {number}); leave_at_once()\n    print('still here')"
    )
    for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(number=int(number))], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (status, "")
        assert done.stdout.strip() == ("" if status else "still here")


def test_what_nohup_has_ignored_stays_ignored_in_workers():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminate_by_exception()
    with terminating():
        send(signal.SIGHUP)
    code = "import os, signal\nfrom fairquant.signals import leave_at_once\nleave_at_once()\nos.kill(os.getpid(), signal.SIGHUP)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_error_in_the_block_is_not_replaced_by_a_signal():
    def work() -> None:
        with Postponed():
            send(signal.SIGINT)
            raise ValueError("the step failed")

    with pytest.raises(ValueError, match="the step failed"):
        work()


def test_threads_other_than_the_first_leave_signals_alone():
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        terminate_by_exception()
        ignore()
        with Postponed():
            assert signal.getsignal(signal.SIGTERM) is before

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_are_light_to_import():
    code = "import sys, fairquant.signals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
