"""What all campaigns share: counts, folders of their own, commands in forked processes, and how a campaign is started."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

RECIPE = {
    "seed": 1, "method": "fq-baq", "dataset": {"name": "synthetic-lesions", "images": 120},
    "model": {"name": "test_resnet", "image_size": 32}, "budget": {"average_bits": 2.5},
    "baseline": {"epochs": 1, "batch_size": 24, "augment": "flips"},
    "calibration": {"images": 24, "batch_size": 24},
    "train": {"epochs": 2, "batch_size": 24, "augment": "flips", "checkpoint_minutes": 0.002},
    "tracking": {"mlflow": None},
}  # fmt: skip

#: What is wrong with a command that fails and says nothing.
SILENT = "exit 2 without a word"


@dataclass
class Count:
    """Pieces of work: tried, and held, which ended as they must; kills that they suffered."""

    kills: int = 0
    tried: int = 0
    held: int = 0
    problems: tuple[str, ...] = ()

    def add(self, problem: str, kills: int = 0) -> None:
        """problem: what went wrong, "" where the work held."""
        self.kills, self.tried, self.held = self.kills + kills, self.tried + 1, self.held + (not problem)
        self.problems += (problem,) if problem else ()
        print(self, problem, file=sys.stderr, flush=True)  # so that a campaign that is stopped has its counts

    def __str__(self) -> str:
        kills = f", {self.kills} kills" if self.kills else ""
        return f"{self.tried} tried, {self.held} held{kills}"


@contextmanager
def own_places() -> Iterator[Path]:
    """A temporary folder, which is the current one and holds the cache."""
    before, cache = Path.cwd(), os.environ.get("FAIRQUANT_CACHE")
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        os.environ["FAIRQUANT_CACHE"] = str(Path(name) / "cache")
        try:
            yield Path(name)
        finally:
            os.chdir(before)
            os.environ.pop("FAIRQUANT_CACHE") if cache is None else os.environ.update(FAIRQUANT_CACHE=cache)


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status (negative: the signal), and what it wrote."""

    status: int
    out: str
    err: str

    def problem(self, *expected: int) -> str:
        """What a user must not see; "" where the command ended as it must."""
        if "Traceback (most recent call last)" in self.err + self.out:
            _, _, told = (self.err + self.out).partition("Traceback (most recent call last)")
            return f"traceback: {told[-1500:]}"
        if self.status not in expected:
            return f"exit {self.status}: {(self.err.strip().splitlines() or [''])[-1][:200]}"
        if self.status == 2 and not self.err.strip():
            return SILENT
        return ""


def started(work: Callable[[], object], out: Path) -> int:
    """Start the work in a forked process that writes to out and out.err; its number."""
    child = os.fork()
    if child:
        with suppress(OSError):  # here too: a signal may be sent before the child has come so far
            os.setpgid(child, child)
        return child
    status = 1
    try:
        for number in (signal.SIGHUP, signal.SIGINT):  # which nohup, or a shell in the background, has ignored
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.setpgid(0, 0)
        for number, file in ((1, out), (2, out.with_suffix(".err"))):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  for as long as the process lives
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        work()
        status = 0
    except SystemExit as done:
        status = done.code if isinstance(done.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()
        os._exit(status)


def ended(child: int, out: Path, seconds: float = 300.0) -> Ended:
    """Wait for a process that was started; one that takes longer is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            texts = [file.read_text(errors="replace") for file in (out, out.with_suffix(".err"))]
            return Ended(os.waitstatus_to_exitcode(status), *texts)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return Ended(-9, "", f"took longer than {seconds:.0f} s")


def command(arguments: Sequence[str], prepare: Callable[[], object] = lambda: None) -> Callable[[], object]:
    """`fairquant ...` as work for a forked process; prepare() is called in it first."""

    def work() -> None:
        from fairquant.cli import main

        prepare()
        sys.argv = ["fairquant", *arguments]
        main()

    return work


def in_process(arguments: Sequence[str], prepare: Callable[[], object] = lambda: None, seconds: float = 300.0) -> Ended:
    """`fairquant ...` in a forked process, to its end."""
    out = Path("output.txt").absolute()
    return ended(started(command(arguments, prepare), out), out, seconds)


Part = Callable[[int, random.Random], Count]


def start(description: str, parts: Mapping[str, Part], rounds: int, arguments: Sequence[str] | None = None) -> None:
    """The command line of a campaign: each part with so many rounds; exit 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--what", default=",".join(parts))
    options = parser.parse_args(arguments)
    failed = False
    for name in options.what.split(","):
        with own_places():
            count = parts[name](options.rounds, random.Random(options.seed))
        print(f"{name}: {count} (seed {options.seed})", flush=True)
        for problem in count.problems:
            print(f"  {problem}", flush=True)
        failed |= bool(count.problems)
    raise SystemExit(failed)
