"""Progress bars with time left, on standard error; results go to standard output."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bars:
    """One bar per piece of work; plain lines where the output is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.progress = Progress(
            TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=self.console, transient=False,
            disable=not self.console.is_terminal,
        )  # fmt: skip

    def bar(self, what: str, total: int) -> Callable[[int], None]:
        task = self.progress.add_task(what, total=total)
        if not self.console.is_terminal:
            self.console.print(f"{what}: {total} steps", markup=False)
        return lambda steps: self.progress.update(task, advance=steps)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def named(self, name: str) -> OneLine:
        """The display of one job among several: a single line."""
        return OneLine(self, name)

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()


class OneLine:
    """One progress line for a whole run: the current stage and its progress. Other messages are in the run's log."""

    def __init__(self, bars: Bars, name: str) -> None:
        self.bars, self.name = bars, name
        self.task = bars.progress.add_task(name, total=None)

    def bar(self, what: str, total: int) -> Callable[[int], None]:
        progress, name = self.bars.progress, self.name
        progress.reset(self.task, description=f"{name}: {what}", total=total)

        def advance(steps: int) -> None:
            progress.update(self.task, advance=steps)
            if progress.tasks[progress.task_ids.index(self.task)].finished:
                progress.update(self.task, description=f"{name}: {what}, done")

        return advance

    def say(self, text: str) -> None:
        if text.startswith(("warning:", "waiting ")):
            self.bars.say(f"{self.name}: {text}")
