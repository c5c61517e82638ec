"""What each part of quantization-aware training is worth: on validation images; no test image is read.

python tests/benchmarks/ablate_training.py fitz FOLDER WEIGHTS [--runs DIR] [--seeds 2,42] [--parts WORDS]
python tests/benchmarks/ablate_training.py isic FOLDER ...

fitz: Fitzpatrick17k, DeiT-Tiny from ImageNet WEIGHTS at 128 px, 2 bits; isic: ISIC 2019 by age, ResNet18 from scratch at 64 px, 0.25
bits. WORDS: with ";", only rows with one of them in their name. Every row is the recipe with one thing changed. Runs that are
finished are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from fairquant.api import ValidationOnly, execute
from fairquant.recipe import read_recipe
from fairquant.registry import discover
from fairquant.runs.folder import Quiet
from fairquant.runs.predictions import read_predictions
from fairquant.training.selection import accuracies

BALANCED = "{name: distillation, balanced: true}"
RECIPE = [
    "method=fq-block-rounding", "rounding=fair-gptq", "train.learning_rate=1e-3", "train.warmup_epochs=0.5",
    f"regularizers=[{BALANCED}]", "tracking.mlflow=null",
]  # fmt: skip
SETTINGS = {
    "fitz": ("recipes/fitz_deit.yaml", ["model.image_size=128", "budget.average_bits=2"]),
    "isic": ("recipes/isic_resnet18.yaml", [
        "model.pretrained=false", "model.image_size=64", "baseline.epochs=15", "baseline.batch_size=64", "train.batch_size=64",
        "train.epochs=8", "budget.average_bits=0.25", "quantize.fallback=null", "baseline.channels_last=true", "train.channels_last=true",
    ]),
}  # fmt: skip
FULL = ["method=fp32", "rounding=null", "regularizers=[]"]
PARTS = {
    "the recipe": [],
    "start: nearest": ["rounding=null"],
    "start: block": ["rounding=block"],
    "distillation: none": ["regularizers=[]"],
    "distillation: every image alike": ["regularizers=[{name: distillation}]"],
    "distillation: every cell alike, plan too": ["protect=cells"],
    "distillation: alone, no labels": ["train.label_weight=0"],
    "distillation: with loss-gap": [f"regularizers=[{BALANCED}, {{name: loss-gap}}]"],
    "scales: learned": ["quantizer.scale=learned"],
    "scales: learned, rate 0.1": ["quantizer.scale=learned", "train.step_size_learning_rate_scale=0.1"],
    "weights: averaged": ["train.weight_average=0.99"],
    "weights: oscillating ones frozen": ["train.freeze_oscillating=0.02"],
    "bits: narrowed from 8": ["rounding=null", "train.narrow_until=0.5"],
    "bits: replanned": ["train.replan=true"],
    "bits: learned by gradient": ["method=fq-baq", "rounding=fair-gptq"],
    "bits: uniform": ["method=gptq", "rounding=fair-gptq"],
    "all together": [
        "quantizer.scale=learned", "train.weight_average=0.99", "train.freeze_oscillating=0.02",
    ],
    "rate: 1e-4": ["train.learning_rate=1e-4"],
    "rate: 3e-4": ["train.learning_rate=3e-4"],
    "rate: 5e-5, as before": ["train.learning_rate=5e-5"],
    "epochs: 3": ["train.epochs=3"],
    "epochs: 30": ["train.epochs=30"],
    "budget: 3 bits": ["budget.average_bits=3"],
    "budget: 3 bits, uniform": ["method=gptq", "rounding=fair-gptq", "budget.average_bits=3"],
    "full precision, 1e-4": [*FULL, "train.learning_rate=1e-4"],
    "full precision, 3e-4": [*FULL, "train.learning_rate=3e-4"],
    "full precision, 1e-3": [*FULL, "train.learning_rate=1e-3"],
    "full precision, 1e-4, distilled": ["method=fp32", "rounding=null", "train.learning_rate=1e-4"],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("on", choices=SETTINGS)
    parser.add_argument("data")
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", default="2,42")
    parser.add_argument("--parts", default="")
    given = parser.parse_args()
    file, own = SETTINGS[given.on]
    where = [f"dataset.root={given.data}", *([f"model.weights={given.weights}"] if given.weights else [])]
    print("| changed | accuracy, worst group, balanced by seed | means | seconds per epoch |")
    for part, overrides in PARTS.items():
        if not any(word in part for word in given.parts.split(";")):
            continue
        recipes = [[*RECIPE, *own, *overrides, *where, f"seed={seed}"] for seed in given.seeds.split(",")]
        rows = [_measure(file, each, given.runs) for each in recipes]
        *means, seconds = (statistics.mean(column) for column in zip(*rows, strict=True))
        cells = [
            "; ".join(", ".join(f"{value:.3f}" for value in row[:-1]) for row in rows),
            ", ".join(f"{value:.3f}" for value in means),
        ]
        print("|", part, "|", " | ".join(cells), "|", f"{seconds:.1f} |", flush=True)


def _measure(file: str, overrides: list[str], runs: Path) -> tuple[float, ...]:
    """Accuracy, worst-group and balanced accuracy on validation after the last epoch, and seconds per epoch."""
    plugins = discover()
    recipe = read_recipe(file, overrides, registry=plugins.registry)
    watched = ValidationOnly(watch=lambda stage, values: None)
    result = execute(recipe, plugins, runs, Quiet(), validation_only=watched, wait=True)
    values = accuracies(read_predictions(result.folder / "validation.npz").after)
    measured = (values[name] for name in ("accuracy", "worst-group-accuracy", "balanced-accuracy"))
    return (*measured, result.report["timings"]["train"] / recipe.train.epochs)


if __name__ == "__main__":
    main()
