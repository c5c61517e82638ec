"""A study's plots: the front with its intervals is drawn here, the others by Optuna."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fairquant.recipe.search import Search
from fairquant.report.plots import AFTER, BEFORE, HARM, figure_and_axes, svg
from fairquant.report.study import Summary

if TYPE_CHECKING:
    import optuna


def study_plots(summary: Summary, section: Search) -> Iterator[tuple[str, str]]:
    """Pairs (heading, SVG); nothing where no trial has results."""
    done = summary.finished()
    if not done:
        return
    if len(summary.objectives) == 2:
        yield "Pareto front", front_plot(summary)
    from optuna.visualization import matplotlib as drawn

    study, objective = _study_of(summary, section), summary.objectives[0].quantity
    first: dict[str, Any] = {"target": lambda trial: trial.values[0], "target_name": f"{objective} on validation"}
    if len(summary.objectives) != 2:
        whole = first if len(summary.objectives) > 1 else {"target_name": first["target_name"]}
        yield "Optimization history", _by_optuna(lambda: drawn.plot_optimization_history(study, **whole))
    if len(done) < 2:
        return
    if any(effect.importance is not None and effect.quantity == objective for effect in summary.effects):
        from optuna.importance import FanovaImportanceEvaluator

        evaluator = FanovaImportanceEvaluator(seed=0)
        yield (
            f"Importance of the parameters for {objective} (fANOVA)",
            _by_optuna(lambda: drawn.plot_param_importances(study, evaluator=evaluator, **first)),
        )
    yield "Parallel coordinates", _by_optuna(lambda: drawn.plot_parallel_coordinate(study, **first))
    yield "Slices", _by_optuna(lambda: drawn.plot_slice(study, **first))


def front_plot(summary: Summary) -> str:
    """Both objectives of every trial; the front with validation intervals, and where it came out on test."""
    one, two = (o.quantity for o in summary.objectives)
    figure, axes = figure_and_axes(9.6, 5.0)
    others = [t.validation for t in summary.finished() if t.number not in summary.front]
    axes.plot([t[two] for t in others], [t[one] for t in others], "o", color=BEFORE, ms=4, label="trials")
    for number, trial in enumerate(summary.on_front()):
        x, y = trial.validation[two], trial.validation[one]
        low, high = trial.validation.get(f"{one}/low", y), trial.validation.get(f"{one}/high", y)
        axes.plot([x, x], [low, high], color=AFTER, lw=1.3, alpha=0.6)
        label = "front, validation with interval" if number == 0 else None
        axes.plot([x], [y], "o", color=AFTER, ms=6, label=label)
        axes.annotate(str(trial.number), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
        if trial.test and one in trial.test and two in trial.test:
            label = "the same on test" if number == 0 else None
            axes.plot([trial.test[two]], [trial.test[one]], "x", color=HARM, ms=7, label=label)
    axes.set_xlabel(f"{two} ({summary.objectives[1].direction})")
    axes.set_ylabel(f"{one} ({summary.objectives[0].direction})")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return svg(figure)


def _by_optuna(draw: Callable[[], Any]) -> str:
    """SVG of what one of Optuna's functions draws. They draw through pyplot: the figure is closed again."""
    import numpy as np
    from matplotlib import pyplot

    backend = pyplot.get_backend()
    pyplot.switch_backend("agg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "experimental", in every version so far
            figure = np.ravel(draw())[0].figure
        figure.set_size_inches(9.6, 4.4)
        return svg(figure, cut_to_content=True)
    finally:
        pyplot.close("all")
        pyplot.switch_backend(backend)


def _study_of(summary: Summary, section: Search) -> optuna.Study:
    """The finished trials as a study in memory: the storage may hold others, and may be gone."""
    import optuna

    study = optuna.create_study(directions=[objective.direction for objective in summary.objectives])
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for parameter in section.parameters:
        if parameter.choices:
            distributions[parameter.path] = optuna.distributions.CategoricalDistribution(
                [*map(_text, parameter.choices)]
            )
        else:
            assert parameter.low is not None and parameter.high is not None
            distributions[parameter.path] = optuna.distributions.FloatDistribution(
                parameter.low, parameter.high, log=parameter.log
            )
    for trial in summary.finished():
        values = [trial.validation[objective.quantity] for objective in summary.objectives]
        own = {path: distributions[path] for path in trial.parameters if path in distributions}
        parameters = {
            path: _text(trial.parameters[path]) if isinstance(own[path], optuna.distributions.CategoricalDistribution)
            else trial.parameters[path] for path in own
        }  # fmt: skip
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=own, values=values))
    return study


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
