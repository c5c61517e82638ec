"""fairquant compare: every method on one budget, the same seeds, epochs and baselines, and their paired differences."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fairquant.errors import UserError, suggestion
from fairquant.recipe import Recipe, read_recipe
from fairquant.recipe.events import ComparisonInfo
from fairquant.recipe.presets import library
from fairquant.registry import Plugins, discover
from fairquant.report.comparison import Cell, Comparison, Grid, Outcome, Subject
from fairquant.report.write import write_comparison, write_grid
from fairquant.runs.data import missing_data
from fairquant.runs.folder import Display, Quiet, default_runs
from fairquant.runs.models import model_problems
from fairquant.study.content import begin, content_of, folder_of
from fairquant.study.grid import Job, make_cells, run_cells
from fairquant.study.rows import summarise
from fairquant.study.shared import SharedGrid

#: Variants of a metric under conventions of others: columns only where they are asked for.
VARIANTS = ("-fairprune", "-fairquant")


def compare(
    recipe: str | os.PathLike[str], *overrides: str, methods: Sequence[str], seeds: Sequence[int],
    budgets: Sequence[float] = (), against: str | None = None, columns: Sequence[str] = (), jobs: int = 1, demo: bool = False,
    storage: str | None = None, patience: float = 300.0, runs: str | os.PathLike[str] | None = None, plugins: Plugins | None = None,
    displays: Callable[[Cell], Display] = lambda cell: Quiet(), on_done: Callable[[Outcome], None] = lambda outcome: None,
) -> Comparison:  # fmt: skip
    """Run methods x budgets x seeds of a recipe and compare them. Finished runs are not run again.

    against: the method that differences are taken from (default: fq-baq where it takes part, else the first method); at
    several budgets each row is compared with that method at its own budget, or all with one row ("fq-baq @ 3").
    columns: labels of the metrics to show; none: all that the recipe lists, but for variants under others' conventions.
    storage: a database that workers on many machines share; patience: seconds to wait for it where it does not answer.
    Raises UserError where the recipe is not valid; a run that fails is a row's problem. (So many parameters: each is a
    user's.)
    """
    return compare_all(
        [recipe], *overrides, methods=methods, seeds=seeds, budgets=budgets, against=against, columns=columns, jobs=jobs, demo=demo,
        storage=storage, patience=patience, runs=runs, plugins=plugins, displays=displays, on_done=on_done,
    ).comparisons[0]  # fmt: skip


def compare_all(
    recipes: Sequence[str | os.PathLike[str]], *overrides: str, methods: Sequence[str], seeds: Sequence[int],
    models: Sequence[str] = (), budgets: Sequence[float] = (), against: str | None = None, columns: Sequence[str] = (),
    jobs: int = 1, demo: bool = False, storage: str | None = None, patience: float = 300.0,
    runs: str | os.PathLike[str] | None = None, plugins: Plugins | None = None,
    displays: Callable[[Cell], Display] = lambda cell: Quiet(), on_done: Callable[[Outcome], None] = lambda outcome: None,
) -> Grid:  # fmt: skip
    """`compare` on several recipes, each with several networks (timm names, in place of its own), as one piece of work; where there
    is more than one comparison, one page holds them all. Raises UserError with the problems of every recipe."""
    if not recipes or not methods or not seeds:
        raise UserError("a comparison needs at least one recipe, one method and one seed")
    plugins = discover() if plugins is None else plugins
    place = Path(runs) if runs is not None else default_runs()
    networks: list[str | None] = [*models] or [None]
    subjects = list(dict.fromkeys(Subject(str(recipe), model) for recipe in recipes for model in networks))
    bases = _read(subjects, overrides, demo, plugins)
    shown = [chosen_columns(columns, [component.label for component in base.metrics]) for base in bases]
    cells = make_cells(subjects, methods, budgets, seeds, library(plugins.registry))
    names = list(dict.fromkeys(cell.row for cell in cells))
    references, display = _references(against, names), displays(cells[0])
    question = [[cell.method, cell.budget, cell.seed] for cell in cells if cell.subject == subjects[0]]
    begun = [_begin(base, question, place, plugins, display) for base in bases]
    folder = begun[0].folder if len(begun) == 1 else place / _name_of(begun)
    job = Job(overrides=tuple(overrides), demo=demo, runs=place)
    if storage is None:
        outcomes = run_cells(cells, job, jobs, displays, on_done)
    else:
        shared = SharedGrid(
            cells=tuple(cells), job=job, database=storage, name=folder.name, folder=folder, patience=patience
        )
        outcomes = shared.run(jobs, displays, on_done)
    comparisons = []
    for subject, base, info, labels in zip(subjects, bases, begun, shown, strict=True):
        own = [outcome for outcome in outcomes if outcome.cell.subject == subject]
        comparisons.append(summarise(base, own, names, references, info.folder, labels))
        _finish(comparisons[-1], info, plugins, display)
    grid = Grid(comparisons=tuple(comparisons), folder=folder)
    if len(comparisons) > 1:
        write_grid(grid)
    return grid


def _read(subjects: Sequence[Subject], overrides: Sequence[str], demo: bool, plugins: Plugins) -> list[Recipe]:
    """The recipe of each subject. UserError with the problems of all of them."""
    bases, problems = list[Recipe](), list[str]()
    for subject in subjects:
        try:
            base = read_recipe(subject.recipe, (*overrides, *subject.overrides), registry=plugins.registry, demo=demo)
            bases.append(base)
            problems += missing_data(base, plugins.registry)
            problems += model_problems(base.model)
        except UserError as error:
            if len(subjects) == 1:
                raise
            problems += [f"{subject.recipe}: {each}" for each in error.problems]
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    return bases


def _begin(base: Recipe, question: object, place: Path, plugins: Plugins, display: Display) -> ComparisonInfo:
    """The folder of one comparison, made and announced. question: methods, budgets and seeds."""
    identity = content_of(base, question, plugins, display)
    folder = folder_of("compare", place / (f"{base.name}-demo" if base.demo else base.name), identity)
    info = ComparisonInfo(base, folder, folder.name)
    begin(folder, identity, display)
    for warning in plugins.notify("fairquant_comparison_started", comparison=info):
        display.say(f"warning: {warning}")
    return info


def _finish(comparison: Comparison, info: ComparisonInfo, plugins: Plugins, display: Display) -> None:
    """Write the comparison's files, and tell the listeners."""
    write_comparison(comparison)
    finished = [outcome.folder for outcome in comparison.outcomes if outcome.folder is not None]
    for warning in plugins.notify("fairquant_comparison_finished", comparison=info, folders=finished):
        display.say(f"warning: {warning}")


def _name_of(comparisons: Sequence[ComparisonInfo]) -> str:
    """compare-<digest>, of which comparisons it is."""
    return f"compare-{hashlib.sha256(' '.join(each.name for each in comparisons).encode()).hexdigest()[:12]}"


def _references(against: str | None, names: Sequence[str]) -> tuple[str, ...]:
    """The rows that `against` names: one row, or a method's rows at every budget."""
    methods = [name.split(" @ ")[0] for name in names]
    wanted = against or ("fq-baq" if "fq-baq" in methods else methods[0])
    references = tuple(name for name, method in zip(names, methods, strict=True) if wanted in (name, method))
    if not references:
        raise UserError(f"--against {against}: is not part of this comparison. Methods: {', '.join(names)}")
    return references


def chosen_columns(wanted: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """The columns by label. Raises UserError for those that the recipe does not measure."""
    problems = [
        f"--columns: the recipe measures no {name!r}.{suggestion(name, labels)} Metrics: {', '.join(labels)}"
        for name in wanted
        if name not in labels
    ]
    if problems:
        raise UserError(problems)
    return tuple(dict.fromkeys(wanted)) or tuple(label for label in labels if not label.endswith(VARIANTS))
