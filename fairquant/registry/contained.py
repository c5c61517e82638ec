"""A plugin's code as far as it can be contained: it may not end the process, and what it prints is not the command's output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from fairquant.errors import Terminated

#: What is never a plugin's doing.
PASS = (KeyboardInterrupt, Terminated)


class Escaped(Exception):
    """A plugin called sys.exit, or raised what is no Exception."""


def is_escape(error: BaseException) -> bool:
    """Whether an error would pass everything that handles errors, and is not the user's wish."""
    return not isinstance(error, (Exception, *PASS))


def described(error: BaseException) -> str:
    """The error in words: sys.exit(3) was called, or its kind and message, which may itself be a plugin's code."""
    if isinstance(error, Escaped):
        return str(error)
    try:
        return (
            f"it called sys.exit({error.code!r})"
            if isinstance(error, SystemExit)
            else f"{type(error).__name__}: {error}"
        )
    except Exception:
        return f"{type(error).__name__}, whose message cannot be read"


@contextmanager
def contained() -> Iterator[None]:
    """Run a plugin's code; what it prints goes to standard error. Raises Escaped in place of what is no Exception."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except BaseException as error:
        if is_escape(error):
            raise Escaped(described(error)) from error
        raise
