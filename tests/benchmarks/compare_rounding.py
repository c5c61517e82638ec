"""What each part of compensated rounding is worth: on validation images, without training.

python tests/benchmarks/compare_rounding.py FOLDER WEIGHTS [--runs DIR] [--bits 2,3] [--seeds 2] [--forms WORDS]
FOLDER: fitzpatrick17k; WEIGHTS: DeiT-Tiny's ImageNet weights; WORDS: with commas, only forms with one of them in their name
Uniform bits, so that the plan plays no part, then FairQuant's plan. All forms start from the same full-precision model. Runs that are
finished are not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import fairquant
from fairquant.runs.predictions import read_predictions
from fairquant.training.selection import accuracies

OWN = "rounding={{name: fair-gptq, {}}}"
FORMS = {
    "nearest": ["rounding=null"],
    "gptq": [],
    "fair-gptq, plain": [OWN.format("rounds: 0, drift: false, bias: false, scale: false, sweeps: 0")],
    "+ sweeps": [OWN.format("rounds: 0, drift: false, bias: false, scale: false")],
    "+ drift": [OWN.format("rounds: 0, bias: false, scale: false")],
    "+ bias": [OWN.format("rounds: 0, scale: false")],
    "+ scale": [OWN.format("rounds: 0")],
    "+ groups": ["rounding=fair-gptq"],
    "+ gradients": [OWN.format("rounds: 0, gradients: true")],
    "block": ["rounding=block"],
    "block + gradients": ["rounding={name: block, gradients: true}"],
    "+ plan": ["method=fq-gptq-ptq"],
    "block + plan": ["method=fq-block-rounding-ptq"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("weights")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--bits", default="2,3")
    parser.add_argument("--seeds", default="2")
    parser.add_argument("--forms", default="")
    given = parser.parse_args()
    print("| form | bits | seed | accuracy | worst group | full precision | worst group | seconds |")
    for bits in map(float, given.bits.split(",")):
        for form, overrides in FORMS.items():
            if not any(word in form for word in given.forms.split(",")):
                continue
            for seed in map(int, given.seeds.split(",")):
                result = fairquant.run(
                    "recipes/fitz_deit.yaml", "method=gptq-ptq", *overrides, f"dataset.root={given.data}",
                    f"model.weights={given.weights}", "model.image_size=128", f"budget.average_bits={bits:g}", f"seed={seed}",
                    "tracking.mlflow=null", runs=given.runs,
                )  # fmt: skip
                predictions = read_predictions(result.folder / "validation.npz")
                after, before = accuracies(predictions.after), accuracies(predictions.before)
                values = [each[name] for each in (after, before) for name in ("accuracy", "worst-group-accuracy")]
                seconds = result.report["timings"].get("rounding", 0.0)
                print(
                    f"| {form} | {bits:g} | {seed} | " + " | ".join(f"{v:.3f}" for v in values) + f" | {seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
