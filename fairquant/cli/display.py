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

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
