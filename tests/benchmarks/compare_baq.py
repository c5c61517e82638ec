"""Which form of BAQ should be the default? Both bit gradients x two scales on real dermoscopy, over seeds.

python tests/benchmarks/compare_baq.py DATA [--runs DIR]     DATA: a folder in ISIC 2019's layout
Every form gets the same baseline (per seed), the same epochs and the same budget; fq-qat (bits fixed by the same plan)
stands beside them. Runs that are finished are not run again. The table
shows test metrics: choosing a default by it uses up those test images (docs/results.md says so).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fairquant

FORMS = {
    f"baq {gradient} {scale}": ["method=fq-baq", f"quantizer={{name: baq, gradient: {gradient}, scale: {scale}}}"]
    for gradient in ("fractional", "step")
    for scale in ("mse", "absmax")
} | {"fq-qat (bits fixed)": ["method=fq-qat"]}
SEEDS = (2, 42, 2026)
COMMON = [
    "model.name=resnet10t", "model.pretrained=false", "model.image_size=48", "budget.average_bits=1.5",
    "baseline.epochs=8", "baseline.batch_size=64", "train.epochs=3", "train.batch_size=64", "tracking.mlflow=null",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    table: dict[str, list[list[float]]] = {}
    for seed in SEEDS:
        for form, overrides in FORMS.items():
            result = fairquant.run(
                "recipes/isic_resnet18.yaml",
                *overrides,
                *COMMON,
                f"dataset.root={given.data}",
                f"seed={seed}",
                runs=given.runs,
            )
            metrics, report = result.report["metrics"], result.report
            row = [
                metrics["accuracy"]["value"], metrics["balanced-accuracy"]["value"], metrics["worst-group-accuracy"]["value"],
                report["change"]["accuracy"]["value"], report["bits"]["average"], report["bits"].get("moved", 0.0),
                report["timings"]["train"],
            ]  # fmt: skip
            table.setdefault(form, []).append(row)
            print(f"seed {seed}  {form:24}" + "".join(f" {value:8.3f}" for value in row), flush=True)
    names = ("accuracy", "balanced", "worst group", "change", "bits", "moved", "train s")
    print(f"| {'form':24} | " + " | ".join(names) + " |")
    for form, rows in table.items():
        values = np.array(rows)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True)]
        print(f"| {form:24} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
