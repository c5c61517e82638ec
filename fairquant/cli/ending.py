"""How a command ends: its status, what it says, and streams that are closed, full or of another encoding."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fairquant.addresses import hidden_in
from fairquant.errors import Terminated, UserError

USER, STOPPED = 2, 130
#: Seconds that threads have to end with the command.
GRACE = 10.0
RESUMES = "The same command resumes."
NO_MEMORY = "error: not enough memory. Lower batch_size or model.image_size, or use another machine"


@dataclass
class Status:
    """Exit status of the process."""

    code: int = 0


def prepare_streams() -> None:
    """Output that is closed goes nowhere; characters that the terminal's encoding does not have are written as escapes."""
    for number in (0, 1, 2):  # the next file that is opened would have the number, and get what libraries print
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  as above
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def ending() -> Iterator[Status]:
    """What ends the block becomes a status; users' mistakes and the system's errors one message on standard error. Bugs pass."""
    status = Status()
    try:
        yield status
    except UserError as error:
        status.code = _say(f"error: {error.render()}", USER)
    except SystemExit as done:
        status.code = done.code if isinstance(done.code, int) else int(done.code is not None)
        if status.code == STOPPED:  # what typer makes of Ctrl-C
            _say(f"stopped. {RESUMES}", STOPPED)
    except KeyboardInterrupt:
        status.code = _say(f"stopped. {RESUMES}", STOPPED)
    except Terminated as stopped:
        status.code = _say(f"stopped by {stopped.name}. {RESUMES}", 128 + stopped.number)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # a pipe that is closed: nobody reads what this command says
            status.code = _say(f"error: {_where(error)}{error.strerror or error}", USER)
    except MemoryError:
        status.code = _say(NO_MEMORY, USER)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        status.code = _say(NO_MEMORY, USER)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Torch has no MemoryError."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def leave_later(status: Status) -> None:
    """Python waits at its end for threads that a plugin may have left, for ever perhaps: those that have not ended within GRACE
    seconds, such as pools that are shut down at the end, are not waited for any longer."""

    def leave() -> None:
        threading.main_thread().join()  # the process ends, not only whoever called main() in a process of their own
        time.sleep(GRACE)
        left = [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
        _say(f"warning: ended with threads still running, which a plugin has left: {', '.join(left)}", status.code)
        flush_streams(status)
        os._exit(status.code)

    threading.Thread(target=leave, daemon=True).start()


def _where(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return f"{' -> '.join(names)}: " if names else ""


def _say(text: str, code: int) -> int:
    with suppress(OSError, ValueError):
        print(f"fairquant: {hidden_in(text)}", file=sys.stderr)
    return code


def flush_streams(status: Status) -> None:
    """Write out what is left; a full disk behind standard output is an error, a closed pipe is not."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout and error.errno != errno.EPIPE:
                status.code = _say(f"error: standard output: {error.strerror}", status.code or USER)
            _discard(stream.fileno())
        except ValueError:  # closed by someone else
            pass


def _discard(number: int) -> None:
    """What is still to be written to this stream goes nowhere: the interpreter would fail on it when it ends."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
