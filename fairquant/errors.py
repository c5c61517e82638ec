"""User errors: every problem at once, each with a suggested fix, never a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

#: Said where something has to be differentiated and cannot be.
NO_GRADIENTS = "the network's forward pass switches gradients off (torch.no_grad, torch.inference_mode or detach)"


class UserError(Exception):
    """One or more problems that the user can fix. The CLI prints them and exits with 2.

    `where` is the file (or object) that holds the problems; each problem is `place: what is wrong. What to do.`
    """

    def __init__(self, problems: str | Iterable[str], where: str | None = None) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        self.where = where
        super().__init__(self.render())

    def render(self) -> str:
        """The text a user sees, without the program's name."""
        if self.where is None and len(self.problems) == 1:
            return self.problems[0]
        where = f" in {self.where}" if self.where else ""
        return "\n".join([f"{len(self.problems)} problem(s){where}", *(f"  {problem}" for problem in self.problems)])


class Infeasible(UserError):
    """No bit plan can meet the budget."""


class TrainingDiverged(UserError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


class Pruned(Exception):
    """A search stopped this trial: others are better at the same epoch."""


class Terminated(BaseException):
    """The process was asked to end, by SIGTERM or SIGHUP. Not an Exception: nothing but a command's end handles it."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(name)
        self.name, self.number = name, number


class NotFinite(UserError):
    """A model with values, or outputs, that are NaN or infinite."""


class MachineFailed(UserError):
    """Not the run but the machine is at fault, such as a full disk: the run can be resumed."""


class RunBusy(UserError):
    """Another process holds the run's folder."""


class PluginFailed(UserError):
    """A component from another distribution raised; the message names it."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing when no known name is close."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown_classes(key: str, listed: Iterable[str], classes: Sequence[str]) -> list[str]:
    """What is wrong with the classes that a key of the recipe names."""
    return [
        f"{key}: the data have no class {name!r}.{suggestion(name, classes)} Classes: {', '.join(classes)}"
        for name in listed
        if name not in classes
    ]
