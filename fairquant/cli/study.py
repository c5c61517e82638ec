"""fairquant study: Optuna over a recipe's search section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fairquant.cli.options import Demo, Overrides, RecipeArgument, Runs
from fairquant.errors import UserError

if TYPE_CHECKING:
    import optuna

    from fairquant.cli.display import Bars


class _Run(TyperGroup):
    """`study RECIPE` is `study run RECIPE`. (typer's Context is a private class.)"""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Run, no_args_is_help=True, help="Search a recipe's budgets and settings: study RECIPE, study show, study best."
)


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="How many in total; default: the recipe's search.trials.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="A database that many machines share, such as postgresql+psycopg://user@host/name."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Workers on this machine.")] = 1,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a database that has stopped answering.")
    ] = 300.0,
    demo: Demo = False,
    runs: Runs = None,
) -> None:
    """Search. The same command resumes an interrupted study and, with one --storage, joins it from other machines."""
    from fairquant.cli.display import Bars

    bars = Bars()
    with bars:
        bars.say("loading ...")
        from fairquant.study.search import search

        line = bars.named("trial")
        folder = search(
            recipe, *(overrides or []), trials=trials, storage=storage, jobs=jobs, patience=patience, demo=demo, runs=runs,
            display=line, on_trial=lambda trial: _say(bars, trial),
        )  # fmt: skip
    print_summary(folder)
    done = _results(folder)["trials"]
    if done and not any(each["state"] == "complete" for each in done):
        why = next((f". Trial {each['number']}: {each['problem']}" for each in done if each["problem"]), "")
        raise UserError(f"no trial was completed{why}")


@app.command()
def show(
    study: Annotated[Path, typer.Argument(help="A study's folder, or a recipe: its latest study.")], runs: Runs = None
) -> None:
    """A finished study: its best trials and the effect of each parameter."""
    print_summary(find_study(study, runs))


@app.command()
def best(
    study: Annotated[Path, typer.Argument(help="A study's folder, or a recipe: its latest study.")],
    to: Annotated[Path, typer.Option(help="The new recipe file.")],
    trial: Annotated[
        int | None, typer.Option(help="A trial of the front; default: the best by the first objective.")
    ] = None,
    runs: Runs = None,
) -> None:
    """Write the winning recipe to a file of your own."""
    from fairquant.files import write_atomically

    folder = find_study(study, runs)
    results = _results(folder)
    front = [each for each in results["trials"] if each["number"] in results["front"]]
    if trial is not None:
        front = [each for each in front if each["number"] == trial]
    if not front:
        raise UserError(
            f"{folder}: no such trial on its front. Trials there: {', '.join(map(str, results['front'])) or 'none'}"
        )
    first = results["objectives"][0]
    chosen = (max if first["direction"] == "maximize" else min)(front, key=lambda t: t["validation"][first["quantity"]])
    if to.exists():
        raise UserError(f"{to}: exists already. Name another file")
    text = (Path(chosen["folder"]) / "recipe.yaml").read_text(encoding="utf-8")
    value = chosen["validation"][first["quantity"]]
    head = f"# Trial {chosen['number']} of {folder.name}: {first['quantity']} {value:.4f} on validation\n"
    write_atomically(to, (head + text).encode())
    print(f"{to}: written. Run it: fairquant run {to}")


def find_study(given: Path, runs: Path | None) -> Path:
    """The folder itself, or the latest study of the recipe."""
    from fairquant.runs.folder import default_runs

    if (given / "study.json").is_file():
        return given
    place = Path(runs) if runs is not None else default_runs()
    studies = sorted(place.glob(f"{given.stem}*/study-*/study.json"), key=lambda file: file.stat().st_mtime)
    if not studies:
        raise UserError(
            f"{given}: neither a study's folder nor a recipe with a study in {place}. Make one: fairquant study {given}"
        )
    return studies[-1].parent


def _results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    if "results" not in content:
        raise UserError(f"{folder}: the study is not finished. The command that started it resumes it")
    results: dict[str, Any] = content["results"]
    return results


def _say(bars: Bars, trial: optuna.trial.FrozenTrial) -> None:
    if "superfluous" in trial.user_attrs:
        return
    values = (
        ", ".join(f"{value:.3f}" for value in trial.values) if trial.values else trial.user_attrs.get("problem", "")
    )
    bars.say(f"trial {trial.number}: {trial.state.name.lower()} {values}  {_values(trial.params)}")


def print_summary(folder: Path) -> None:
    """The best trials on the terminal."""
    from rich.console import Console

    results = _results(folder)
    console = Console(highlight=False)
    names = [objective["quantity"] for objective in results["objectives"]]
    states = [trial["state"] for trial in results["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    console.print(f"{len(states)} trials: {counts}. Pareto-optimal, as {', '.join(names)} on validation (test):")
    for trial in results["trials"]:
        if trial["number"] in results["front"]:
            test = trial["test"] or {}
            reached = ", ".join(f"{trial['validation'][name]:.3f} ({_number(test.get(name))})" for name in names)
            console.print(f"  trial {trial['number']}: {reached}  {_values(trial['parameters'])}", soft_wrap=True)
    console.print("page ", folder / "study.html", soft_wrap=True)


def _values(parameters: dict[str, Any]) -> str:
    return " ".join(f"{p}={v:.3g}" if isinstance(v, float) else f"{p}={v}" for p, v in parameters.items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
