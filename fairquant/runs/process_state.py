"""Settings that hold for the whole process, which a listener may not change."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

DEVICES = ("cpu", "cuda")


def _set_gradients(enabled: bool) -> None:
    torch.set_grad_enabled(enabled)


def _read_autocast() -> tuple[int, tuple[bool, ...]]:
    """How many contexts are open, and for which devices it is on. As long as one is open, weights that were cast are kept, also
    where they have changed since."""
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return depth, tuple(torch.is_autocast_enabled(device) for device in DEVICES)


def _set_autocast(value: tuple[int, tuple[bool, ...]]) -> None:
    depth, enabled = value
    for device, each in zip(DEVICES, enabled, strict=True):
        torch.set_autocast_enabled(device, each)
    for _ in range(_read_autocast()[0] - depth):
        torch.autocast_decrement_nesting()
    for _ in range(depth - _read_autocast()[0]):
        torch.autocast_increment_nesting()
    torch.clear_autocast_cache()


@contextmanager
def outside_autocast() -> Iterator[None]:
    """Autocast of the caller's is off in here: a run has a precision of its own, and weights change while it lasts."""
    before = _read_autocast()
    _set_autocast((0, tuple(False for _ in DEVICES)))
    try:
        yield
    finally:
        _set_autocast(before)


#: What a setting is called, how it is read, and how it is set again. (Any: each setting has a type of its own.)
SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "gradients": (torch.is_grad_enabled, _set_gradients),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "deterministic": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "device": (torch.get_default_device, torch.set_default_device),
    "precision of products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "autocast": (_read_autocast, _set_autocast),
    "folder": (os.getcwd, os.chdir),
    "standard output": (lambda: sys.stdout, lambda stream: setattr(sys, "stdout", stream)),
    "standard error": (lambda: sys.stderr, lambda stream: setattr(sys, "stderr", stream)),
    "recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
}  # fmt: skip


def _read() -> dict[str, Any]:
    found = {}
    for name, (read, _) in SETTINGS.items():
        with suppress(OSError):  # a folder that is gone
            found[name] = read()
    return found


@dataclass(frozen=True)
class ProcessState:
    """The settings as they are now, and whether an alarm is set."""

    settings: Mapping[str, Any] = field(default_factory=_read)

    def undo(self) -> str:
        """Set them again; what was other, in words."""
        now = _read()
        changed = [
            name for name, value in self.settings.items() if now.get(name) is not value and now.get(name) != value
        ]
        for name in changed:
            with suppress(OSError):
                SETTINGS[name][1](self.settings[name])
        if hasattr(signal, "setitimer") and signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, 0)
            changed.append("alarm")
        return f"changed settings of the process ({', '.join(changed)})" if changed else ""
