"""Do learned bits earn their place? Three exams on validation images, over seeds; no test image is read.

python tests/benchmarks/exam_bits.py isic FOLDER [--runs DIR] [--seeds 2,42,2026] [--exams abc] [--learn baq] [KEY=VALUE ...]
python tests/benchmarks/exam_bits.py fitz FOLDER WEIGHTS ...

isic: ResNet18 at 64 px, 0.25 bits, planned after two epochs in full precision and trained for ten; fitz: DeiT-Tiny at 128 px, 2 bits.

(a) Begun with uniform bits, do learned bits end as good as the certified plan's fixed ones? (b) Begun with the certified plan, are they
ahead of it? (c) Where a group's weight is raised, do bits go to the units that its importance names? Differences are paired, on the
same images, with 95 % intervals; (c) is Spearman's rank correlation between the change of each unit's bits and the group's share of
its importance, with the bootstrap interval over units. Learned: by `baq`, or (always in (c)) by `train.replan`. Runs that are finished
are not run again.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import ClassVar

import numpy as np
from fairquant_fair.allocators import Minimax
from scipy.stats import spearmanr

from fairquant.api import ValidationOnly, execute
from fairquant.bits.fallback import uniform_bits
from fairquant.recipe import Recipe, read_recipe
from fairquant.recipe.events import RunInfo
from fairquant.registry import Plugins, discover, hookimpl
from fairquant.roles import Allocation, AllocationProblem, GroupImportance, Predictions
from fairquant.runs.folder import Quiet
from fairquant.runs.predictions import read_predictions
from fairquant.study.statistics import paired_differences

METRICS = ("accuracy", "worst-group-accuracy", "balanced-accuracy")
SETTINGS = {
    "isic": ("recipes/isic_resnet18.yaml", "60 and over", [
        "model.pretrained=false", "model.image_size=64", "baseline.epochs=2", "baseline.batch_size=64", "baseline.channels_last=true",
        "train.batch_size=64", "train.channels_last=true", "train.epochs=10", "train.learning_rate=1e-3", "train.warmup_epochs=0.5",
        "train.bit_learning_rate_scale=3", "calibration.images=512", "budget.average_bits=0.25", "regularizers=[]",
    ]),
    "fitz": ("recipes/fitz_deit.yaml", "types 4-6", ["model.image_size=128", "budget.average_bits=2"]),
}  # fmt: skip
COMMON = ["tracking.mlflow=null", "quantize.fallback=null"]
FIXED = ["method=fq-qat"]
LEARNED = {"baq": ["method=fq-baq"], "replan": ["method=fq-qat", "train.replan=true"]}


@dataclass(frozen=True)
class UniformFirst:
    """Uniform bits where a run makes its first plan, `minimax` afterwards."""

    plans: ClassVar[list[int]] = []

    def allocate(self, problem: AllocationProblem) -> Allocation:
        self.plans.append(1)
        return Allocation(uniform_bits(problem)) if len(self.plans) == 1 else Minimax().allocate(problem)


@hookimpl
def fairquant_register(registry) -> None:  # type: ignore[no-untyped-def]
    registry.add("allocator", "uniform-first", "exam_bits:UniformFirst", "uniform bits, then minimax")


@hookimpl
def fairquant_importance_done(run: RunInfo, importance: GroupImportance) -> None:
    np.savez(run.folder / "importance.npz", table=importance.table().numpy(), groups=importance.group_names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("on", choices=SETTINGS)
    parser.add_argument("data")
    parser.add_argument("more", nargs="*", help="fitz: the ImageNet weights; then overrides")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", default="2,42,2026")
    parser.add_argument("--exams", default="abc")
    parser.add_argument("--learn", choices=LEARNED, default="baq")
    given = parser.parse_intermixed_args()
    overrides = [each if "=" in each else f"model.weights={each}" for each in given.more]
    exam = Exam(given.on, [f"dataset.root={given.data}", *overrides], given.runs, [*map(int, given.seeds.split(","))])
    learned, uniform = LEARNED[given.learn], "allocator=uniform-first"
    if "a" in given.exams:
        exam.differences("(a) from uniform, learned - certified plan, fixed", [*learned, uniform], FIXED)
        exam.differences("    uniform, fixed - certified plan, fixed", [*FIXED, uniform], FIXED)
    if "b" in given.exams:
        exam.differences("(b) from the certified plan, learned - fixed", learned, FIXED)
    if "c" in given.exams:
        exam.correlation("(c) bits moved by the group's weight, with its share of the importance")


class Exam:
    """The runs of one setting."""

    def __init__(self, on: str, overrides: list[str], runs: Path, seeds: list[int]) -> None:
        self.recipe, self.group, own = SETTINGS[on]
        self.overrides, self.runs, self.seeds = [*own, *COMMON, *overrides], runs, seeds
        point = EntryPoint("exam", "exam_bits", "fairquant")
        self.plugins: Plugins = discover([*entry_points(group="fairquant"), point])

    def differences(self, name: str, one: list[str], other: list[str]) -> None:
        """The first minus the second, mean over seeds."""
        pairs = [(self.validation(other, seed), self.validation(one, seed)) for seed in self.seeds]
        metrics = [each for each in self.read(one, 0).metrics if each.label in METRICS]
        found = paired_differences(pairs, metrics)
        print(
            name,
            *(f"{label} {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for label, d in found.items()),
            sep="; ",
            flush=True,
        )

    def correlation(self, name: str) -> None:
        """Of each seed, and in the mean."""
        values, draws = [], []
        for seed in self.seeds:
            weights = f"reducer={{name: weighted, weights: {{'{self.group}': 8}}}}"
            folders = [
                self.run([*LEARNED["replan"], "allocator=knapsack", reducer], seed)
                for reducer in ("reducer={name: weighted}", weights)
            ]
            plain, raised = (
                np.loadtxt(each / "bit_plan.csv", delimiter=",", skiprows=1, usecols=3) for each in folders
            )
            stored = np.load(folders[0] / "importance.npz")
            row = list(stored["groups"]).index(self.group)
            share = stored["table"][row] / stored["table"].sum(0).clip(1e-30)
            draw = np.random.default_rng(seed)
            values.append(spearmanr(raised - plain, share).statistic)
            chosen = draw.integers(0, len(share), (200, len(share)))
            draws.append([spearmanr((raised - plain)[rows], share[rows]).statistic for rows in chosen])
        low, high = np.quantile(np.mean(draws, 0), [0.025, 0.975])
        print(
            f"{name}: {np.mean(values):+.3f} [{low:+.3f}, {high:+.3f}]; by seed",
            *(f"{v:+.3f}" for v in values),
            flush=True,
        )

    def read(self, overrides: list[str], seed: int) -> Recipe:
        return read_recipe(self.recipe, [*self.overrides, *overrides, f"seed={seed}"], registry=self.plugins.registry)

    def run(self, overrides: list[str], seed: int) -> Path:
        UniformFirst.plans.clear()
        watched = ValidationOnly(watch=lambda stage, values: None)
        recipe = self.read(overrides, seed)
        return execute(recipe, self.plugins, self.runs, Quiet(), validation_only=watched, wait=True).folder

    def validation(self, overrides: list[str], seed: int) -> Predictions:
        return read_predictions(self.run(overrides, seed) / "validation.npz").after


if __name__ == "__main__":
    from exam_bits import main  # the module that the registry loads, and not a second one of the name __main__

    sys.exit(main())
