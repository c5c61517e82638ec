"""The recipe's `search` section: parameters, objectives and constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fairquant.errors import suggestion
from fairquant.recipe.constraints import FACTS, Constraint, check_quantity, read_constraints
from fairquant.registry.build import Problems

Direction = Literal["maximize", "minimize"]

SAMPLERS = ("tpe", "random", "nsga2", "gp", "qmc", "grid")
PRUNERS = ("none", "median", "hyperband", "successive-halving")
KEYS = ("parameters", "objectives", "constraints", "sampler", "pruner", "trials")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A recipe path and its values: `choices`, or a range low..high (whole numbers where both are), in steps or on a log
    scale. when: other parameters' values without which this one is left out."""

    path: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()  # Any here and below: of the type that the recipe's key has
    when: tuple[tuple[str, Any], ...] = ()

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def range(self) -> tuple[float, float]:
        """low and high of a parameter that has no choices."""
        assert self.low is not None and self.high is not None
        return self.low, self.high

    def ends(self) -> tuple[Any, ...]:
        """Values to try a recipe with."""
        return self.choices if self.choices else (self.low, self.high)


@dataclass(frozen=True)
class Objective:
    """A metric's label, or `bits` or `megabytes`, and which way is better."""

    quantity: str
    direction: Direction


@dataclass(frozen=True, kw_only=True)
class Search:
    """A validated search section."""

    parameters: tuple[Parameter, ...]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    sampler: str = "tpe"
    pruner: str = "none"
    trials: int = 20


def read_search(section: Mapping[str, Any], labels: tuple[str, ...], problems: Problems) -> Search | None:
    """labels: the recipe's metrics. Problems are added as (dotted key, text); None where there are any."""
    before = len(problems)
    for key in section:
        if key not in KEYS:
            problems.append((f"search.{key}", f"unknown key.{suggestion(str(key), KEYS)} Keys: {', '.join(KEYS)}"))
    known = (*labels, *FACTS)
    parameters = _parameters(section, problems)
    objectives = _objectives(section, known, problems)
    constraints = tuple(
        constraint
        for quantity, bounds in _mapping(section, "constraints", False, problems).items()
        for constraint in read_constraints(str(quantity), bounds, known, problems)
    )
    sampler, pruner = section.get("sampler", "tpe"), section.get("pruner", "none")
    _one_of("search.sampler", sampler, SAMPLERS, problems)
    _one_of("search.pruner", pruner, PRUNERS, problems)
    if sampler == "grid" and any(not parameter.choices for parameter in parameters):
        ranged = next(parameter.path for parameter in parameters if not parameter.choices)
        problems.append(("search.sampler", f"a grid needs lists of values, and {ranged!r} has a range"))
    if pruner != "none" and len(objectives) > 1:
        problems.append(("search.pruner", "trials are pruned by one objective, and there are several"))
    trials = section.get("trials", 20)
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        problems.append(("search.trials", f"must be a whole number of at least 1, got {trials!r}"))
    if len(problems) > before:
        return None
    return Search(
        parameters=parameters, objectives=objectives, constraints=constraints, sampler=str(sampler), pruner=str(pruner),
        trials=int(trials),
    )  # fmt: skip


def _parameters(section: Mapping[str, Any], problems: Problems) -> tuple[Parameter, ...]:
    """What to vary; a condition may name parameters that come before."""
    parameters = tuple(
        parameter
        for path, values in _mapping(section, "parameters", True, problems).items()
        if (parameter := _parameter(str(path), values, problems)) is not None
    )
    for parameter in parameters:
        if parameter.path.split(".")[0] in ("tracking", "search"):
            problems.append(
                (f"search.parameters.{parameter.path}", "does not change the result: there is nothing to search")
            )
    paths = [parameter.path for parameter in parameters]
    for parameter in parameters:
        for other, _ in parameter.when:
            if other not in paths[: paths.index(parameter.path)]:
                problems.append(
                    (f"search.parameters.{parameter.path}.when", f"{other!r} must be a parameter that comes before it")
                )
    return parameters


def _objectives(section: Mapping[str, Any], known: tuple[str, ...], problems: Problems) -> tuple[Objective, ...]:
    """What to optimize, and in which direction."""
    objectives = []
    for quantity, direction in _mapping(section, "objectives", True, problems).items():
        check_quantity(f"search.objectives.{quantity}", quantity, known, problems)
        if direction not in ("maximize", "minimize"):
            problems.append((f"search.objectives.{quantity}", f"must be maximize or minimize, got {direction!r}"))
        objectives.append(Objective(str(quantity), direction))
    return tuple(objectives)


def try_out(search: Search, resolve: Callable[[list[str]], Problems]) -> Problems:
    """Check every value in the recipe, the other parameters at their first values: resolve(overrides) gives what is wrong."""
    problems: Problems = []
    for parameter in search.parameters:
        for value in parameter.ends():
            forced = {**dict(parameter.when), parameter.path: value}
            chosen: dict[str, Any] = {}
            for each in search.parameters:
                if all(chosen.get(path) == wanted for path, wanted in each.when):
                    chosen[each.path] = forced.get(each.path, each.ends()[0])
            wrong = resolve([override(path, v) for path, v in chosen.items()])
            own = [(key, text) for key, text in wrong if parameter.path == key or parameter.path.startswith(f"{key}.")]
            problems += [(f"search.parameters.{parameter.path}", f"{value!r}: {key}: {text}") for key, text in own[:1]]
    return problems


def override(path: str, value: Any) -> str:
    """As on the command line."""
    import json

    return f"{path}={json.dumps(value)}"


def _mapping(section: Mapping[str, Any], key: str, needed: bool, problems: Problems) -> Mapping[Any, Any]:
    value = section.get(key) or {}
    if not isinstance(value, Mapping) or (needed and not value):
        example = {"parameters": "{train.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}",
                   "objectives": "{worst-group-accuracy: maximize}", "constraints": "{megabytes: {at_most: 2}}"}[key]  # fmt: skip
        problems.append((f"search.{key}", f"expected a mapping, such as {example}, got {value!r}"))
        return {}
    return value


def _parameter(path: str, values: Any, problems: Problems) -> Parameter | None:
    key = f"search.parameters.{path}"
    if isinstance(values, list):
        values = {"choices": values}
    if not all(part and part.isprintable() and "=" not in part for part in path.split(".")):
        problems.append(("search.parameters", f"{path!r} is no key of a recipe, such as budget.average_bits"))
        return None
    if not isinstance(values, Mapping):
        problems.append((key, f"expected a list of values or {{low: ..., high: ...}}, got {values!r}"))
        return None
    known = ("low", "high", "step", "log", "choices", "when")
    for name in values:
        if name not in known:
            problems.append((f"{key}.{name}", f"unknown key.{suggestion(str(name), known)} Keys: {', '.join(known)}"))
            return None
    condition = values.get("when") or {}
    if not isinstance(condition, Mapping):
        problems.append((f"{key}.when", f"expected a mapping, such as {{allocator.name: knapsack}}, got {condition!r}"))
        return None
    when = tuple((str(path), wanted) for path, wanted in condition.items())
    if "choices" in values:
        choices = values["choices"]
        if not isinstance(choices, list) or not choices:
            problems.append((f"{key}.choices", f"expected a list of values, got {choices!r}"))
            return None
        return Parameter(path=path, choices=tuple(choices), when=when)
    return _range(path, values, when, problems)


def _range(
    path: str, values: Mapping[Any, Any], when: tuple[tuple[str, Any], ...], problems: Problems
) -> Parameter | None:
    """A parameter between two numbers."""
    key = f"search.parameters.{path}"
    low, high, step, log = values.get("low"), values.get("high"), values.get("step"), values.get("log", False)
    for name, number in (("low", low), ("high", high), ("step", step)):
        if not (number is None and name == "step") and (
            isinstance(number, bool) or not isinstance(number, int | float)
        ):
            problems.append((f"{key}.{name}", f"expected a number, got {number!r}"))
            return None
    assert low is not None
    assert high is not None
    wrong = (
        f"low must be below high, got {low!r} and {high!r}" if not low < high
        else f"a log scale needs low above 0, got {low!r}" if log and low <= 0
        else "step and log exclude each other" if log and step is not None
        else f"step must be above 0 and at most {high - low:g}, got {step!r}" if step is not None and not 0 < step <= high - low
        else None
    )  # fmt: skip
    if wrong is not None:
        problems.append((key, wrong))
        return None
    return Parameter(path=path, low=low, high=high, step=step, log=bool(log), when=when)


def _one_of(key: str, value: Any, known: tuple[str, ...], problems: Problems) -> None:
    if value not in known:
        problems.append((key, f"{value!r} is not one of {', '.join(known)}.{suggestion(str(value), known)}"))
