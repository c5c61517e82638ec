"""What listeners are given of a run, a comparison and a study, and the report that a run ends with (report.json)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Required, TypedDict

from fairquant.recipe.schema import Recipe


@dataclass(frozen=True)
class RunInfo:
    """One run: its resolved recipe, its folder, and the folder's name."""

    recipe: Recipe
    folder: Path
    name: str


@dataclass(frozen=True)
class ComparisonInfo:
    """One comparison: the recipe that its runs vary, its folder, and the folder's name."""

    recipe: Recipe
    folder: Path
    name: str


@dataclass(frozen=True)
class StudyInfo:
    """One study: the recipe with its `search` section, its folder, and the folder's name."""

    recipe: Recipe
    folder: Path
    name: str


class IntervalReport(TypedDict):
    """A value with its 95 % interval; None where it is undefined (JSON has no NaN)."""

    value: float | None
    low: float | None
    high: float | None


class MetricReport(IntervalReport):
    """by_group: group -> value; skipped: cells left out for lack of images."""

    by_group: dict[str, float | None]
    skipped: int


class ChangeReport(IntervalReport):
    """A change against full precision on the same images, overall and by group."""

    by_group: dict[str, IntervalReport]


class DatasetReport(TypedDict):
    """counts: images by split, group and class, and what was dropped."""

    name: str
    fingerprint: str
    classes: list[str]
    attributes: list[str]
    counts: Mapping[str, Any]  # numbers, and numbers by name: of two depths
    labels: Literal["given", "the model's own answers"]


class BudgetReport(TypedDict, total=False):
    """What the recipe allowed: bits per weight, bytes, bit operations or milliseconds."""

    average_bits: Required[float | None]
    size_bytes: float
    bops: float
    latency_ms: float
    nominal_bits: float


class BitsReport(TypedDict, total=False):
    """What was spent. average: bits per quantized weight; average_all: over all weights, 32 for those in float32, which in_float lists
    (name -> number of weights); histogram: bits -> weights; moved: fraction of units whose learned bits left the starting plan."""

    average: Required[float]
    average_all: Required[float]
    in_float: Required[dict[str, int]]
    histogram: Required[dict[str, int]]
    weight_bytes: Required[int]
    moved: float
    bops: int
    full_bops: int
    latency_ms: float


class ArtifactReport(TypedDict):
    """The file that ships."""

    path: str
    bytes: int
    sha256: str


class OptimalityReport(TypedDict, total=False):
    """The allocator's certificate, where it has one."""

    lower_bound: float | None
    gap: float | None


class DeviationReport(TypedDict):
    """From full precision, in the group where it is largest: fraction of images that get another class; divergence of the class
    probabilities, in nats."""

    changed: float | None
    divergence: float | None


class FallbackReport(TypedDict):
    """The allocator's plan beside uniform bits of the same budget, on `images` images, before any training; unseen: whether they are
    validation images, which no plan was made with; taken: which of them the run went on with; text: all of it in words."""

    plan: DeviationReport
    uniform: DeviationReport
    images: int
    unseen: bool
    taken: Literal["plan", "uniform"]
    text: str


class RoundingReport(TypedDict):
    """How the weights were rounded, before any training. images: of calibration; layers: all that were rounded; compensated: those
    whose codes were chosen with their inputs, the others are rounded to the nearest; blocks: those that were learned as a whole,
    and those that stay as their layers were rounded."""

    name: str
    images: int
    layers: int
    compensated: int
    blocks: dict[str, int]


class BaselineReport(TypedDict):
    """The full-precision model's metrics."""

    metrics: dict[str, MetricReport]


#: What the test images say of a limit: kept, broken, or neither can be told.
Answer = Literal["PASS", "FAIL", "CANNOT TELL"]


class LimitReport(IntervalReport):
    """One limit of the recipe's section `accept` and what became of it.

    name: what is limited, such as "sensitivity of MEL in 'male'"; kind: what `value`, its one-sided interval ends and `limit` are;
    images: what it rests on; more_images: how many more like these would be needed, where it cannot be told; left_out: cells
    that the metric leaves out for lack of images, so that it cannot be told.
    """

    name: str
    kind: Literal["loss", "rise", "at least", "at most"]
    limit: float
    answer: Answer
    images: int
    more_images: int | None
    left_out: int


class AcceptReport(TypedDict):
    """The answer to "may I ship this?" and the limits behind it, those that fail first."""

    answer: Answer
    limits: list[LimitReport]


class CellReport(TypedDict):
    """A rate of one class, of all images or in a group. before, after: the rates; change with its 95 % interval; images: those
    that the rate rests on."""

    rate: str
    label: str
    scope: str
    images: int
    before: float | None
    after: float | None
    change: IntervalReport


class CellsReport(TypedDict):
    """Which classes lost sensitivity or specificity, for whom, by more than chance (Holm over all cells); how many cells could
    be judged, and how many have too few changed images for that. Every cell is in cells.csv."""

    lost: list[CellReport]
    judged: int
    undecided: int


class AreaReport(TypedDict):
    """An area under the ROC curve, of all images or in a group; the change is paired (DeLong)."""

    kind: str
    scope: str
    positives: int
    negatives: int
    before: IntervalReport
    after: IntervalReport
    change: IntervalReport


class OperatingReport(TypedDict):
    """Decisions at thresholds that were chosen on validation. classes: the positive ones; thresholds: of the full-precision
    model and of this one."""

    classes: list[str]
    target: str
    thresholds: list[float]
    rates: list[CellReport]
    areas: list[AreaReport]


class Report(TypedDict):
    """report.json: stable keys (docs/report.md)."""

    method: str
    seed: int
    recipe: str
    dataset: DatasetReport
    budget: BudgetReport
    bits: BitsReport
    artifact: ArtifactReport
    metrics: dict[str, MetricReport]
    baseline: BaselineReport
    change: dict[str, ChangeReport]
    accept: AcceptReport
    cells: CellsReport
    operating_point: OperatingReport | None
    optimality: OptimalityReport
    fallback: FallbackReport | None
    rounding: RoundingReport | None
    timings: dict[str, float]
    versions: dict[str, str]
    identity: str
