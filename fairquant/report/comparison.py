"""The data of a comparison: what was run, each method's row, and the whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fairquant.recipe.events import Report
from fairquant.recipe.schema import Recipe


@dataclass(frozen=True)
class Subject:
    """What methods are compared on: a recipe (a file, or the name of one that ships), and a network in place of its own."""

    recipe: str
    model: str | None = None

    @property
    def name(self) -> str:
        stem = Path(self.recipe).stem
        return stem if self.model is None else f"{stem}, {self.model}"

    @property
    def overrides(self) -> tuple[str, ...]:
        return () if self.model is None else (f"model.name={self.model}",)


@dataclass(frozen=True)
class Cell:
    """One run to make. budget None: the method brings its own (uniform-4), or has none (fp32)."""

    subject: Subject
    method: str
    budget: float | None
    seed: int

    @property
    def row(self) -> str:
        """What the table calls the method at this budget."""
        return self.method if self.budget is None else f"{self.method} @ {self.budget:g}"

    @property
    def overrides(self) -> tuple[str, ...]:
        budget = () if self.budget is None else (f"budget.average_bits={self.budget:g}",)
        return (*self.subject.overrides, f"method={self.method}", f"seed={self.seed}", *budget)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: its folder and report, or why there is none."""

    cell: Cell
    folder: Path | None
    report: Report | None
    problem: str | None = None


@dataclass(frozen=True)
class Spread:
    """mean and standard deviation over seeds (NaN with one seed); values by seed."""

    mean: float
    deviation: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """A method minus the reference, mean over seeds, with the bootstrap interval over test images."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method at one budget.

    metrics: label -> spread over seeds; worst: ends of the interval of worst-group accuracy, mean over seeds; change:
    group -> accuracy against full precision; layers: average bits of each layer, first seed; reference: the row that
    differences are taken from, None for a reference itself; against: label -> difference; answers: of each seed, to the limits
    of the recipe against full precision; lost: of each seed with a significant loss, the worst one in words.
    """

    name: str
    method: str
    budget: float | None
    seeds: tuple[int, ...]
    bits: Spread
    megabytes: Spread
    metrics: dict[str, Spread]
    worst: tuple[float, float]
    change: dict[str, Spread]
    layers: dict[str, float]
    reference: str | None
    against: dict[str, Difference]
    answers: tuple[str, ...]
    problems: tuple[str, ...]
    lost: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The worst answer over seeds; "" where no run has finished."""
        return next((each for each in ("FAIL", "CANNOT TELL", "PASS") if each in self.answers), "")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A finished comparison: rows in the order asked for, every run's outcome, the folder of the files.

    references: the rows that differences are taken from, one for each budget where the method named has several; lower:
    labels of metrics whose lower values are better; permutation_baselines: label of each gap -> its value with groups
    permuted in the references' predictions, mean over them and over seeds.
    """

    recipe: Recipe
    references: tuple[str, ...]
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    lower: frozenset[str]
    permutation_baselines: dict[str, float]
    outcomes: tuple[Outcome, ...]
    folder: Path

    def best(self, column: str) -> float:
        """The best mean of a column among quantized methods that have one; NaN where none has."""
        means = [row.metrics[column].mean for row in self.rows if row.metrics and row.method != "fp32"]
        means = [mean for mean in means if mean == mean]
        if not means:
            return float("nan")
        return min(means) if column in self.lower else max(means)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Comparisons of the same methods on several recipes and networks; folder: of the page that holds them all."""

    comparisons: tuple[Comparison, ...]
    folder: Path

    @property
    def recipes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.recipe.name for each in self.comparisons))

    def of_recipe(self, name: str) -> tuple[Comparison, ...]:
        """The comparisons of one recipe, a network each."""
        return tuple(each for each in self.comparisons if each.recipe.name == name)
