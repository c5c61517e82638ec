"""Which form of BAQ should be the default? Both bit gradients x three scales on real dermoscopy, on validation, over seeds.

python tests/benchmarks/compare_baq.py DATA [--runs DIR] [--forms WORDS] [--seeds 11,12,13]
DATA: a folder in ISIC 2019's layout; WORDS: with commas, only forms with one of them in their name
Every form gets the same baseline (per seed), the same epochs and the same budget; fq-block (bits fixed by the same plan)
stands beside them. All start from the nearest codes. The table shows validation images only. The rule, fixed before the runs: the form with the highest
mean worst-group accuracy; forms within one standard error of it (of the paired difference over seeds) are ranked by
balanced accuracy. Runs that are finished are not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fairquant
from fairquant.runs.predictions import read_predictions
from fairquant.training.selection import accuracies

BAQ = ("method=fq-baq", "rounding=null", "regularizers=[loss-gap, bit-budget]")
FISHER = (*BAQ, "importance={name: fisher}", "train.bit_confidence=0")
FORMS = (
    {
        f"baq {gradient} {scale}": [*FISHER, f"quantizer={{name: baq, gradient: {gradient}, scale: {scale}}}"]
        for gradient in ("fractional", "step")
        for scale in ("mse", "absmax", "quantile")
    }
    | {
        f"baq step mse, block-fisher, confidence {confidence}": [*BAQ, f"train.bit_confidence={confidence}"]
        for confidence in (0, 1, 2)
    }
    | {
        "fq-block (bits fixed), fisher": ["method=fq-block", "importance=fisher"],
        "fq-block (bits fixed), block-fisher": ["method=fq-block"],
    }
)
SEEDS = (11, 12, 13)  # not those of the paper: their test images are reported on
COMMON = [
    "model.name=resnet10t", "model.pretrained=false", "model.image_size=48", "budget.average_bits=1.5",
    "baseline.epochs=8", "baseline.batch_size=64", "train.epochs=3", "train.batch_size=64", "tracking.mlflow=null",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--forms", default="")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    given = parser.parse_args()
    table: dict[str, list[list[float]]] = {}
    for seed in map(int, given.seeds.split(",")):
        for form, overrides in FORMS.items():
            if not any(word in form for word in given.forms.split(",")):
                continue
            result = fairquant.run(
                "recipes/isic_resnet18.yaml",
                *overrides,
                *COMMON,
                f"dataset.root={given.data}",
                f"seed={seed}",
                runs=given.runs,
            )
            report = result.report
            predictions = read_predictions(result.folder / "validation.npz")
            before, after = accuracies(predictions.before), accuracies(predictions.after)
            row = [
                after["accuracy"], after["balanced-accuracy"], after["worst-group-accuracy"],
                after["accuracy"] - before["accuracy"], report["bits"]["average"], report["bits"].get("moved", 0.0),
                report["timings"]["train"],
            ]  # fmt: skip
            table.setdefault(form, []).append(row)
            print(f"seed {seed}  {form:44}" + "".join(f" {value:8.3f}" for value in row), flush=True)
    names = ("accuracy", "balanced", "worst group", "change", "bits", "moved", "train s")
    print(f"| {'form':24} | " + " | ".join(names) + " |")
    for form, rows in table.items():
        values = np.array(rows)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True)]
        print(f"| {form:24} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
