"""What a user would take otherwise: other libraries' weight quantization without training, on the same full-precision model.

pip install torchao optimum-quanto nncf    # theirs, and not needed by anything else here
python tests/benchmarks/compare_peers.py FOLDER WEIGHTS [--runs DIR] [--bits 4,3,2] [--seed 2] [--split validation|test]
FOLDER: fitzpatrick17k; WEIGHTS: DeiT-Tiny's ImageNet weights. Peers that are not installed, or fail, are named with their error.
Bytes: codes, scales and shifts as the library stores them (32 bits each), and all that stays in float32; ours: the file.
Calibration images, where a peer takes any, are those of our runs.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import fairquant
from fairquant.artifact.load import read_artifact
from fairquant.data.batching import batches, draw_calibration
from fairquant.data.transforms import Normalization
from fairquant.recipe import read_recipe
from fairquant.registry import discover
from fairquant.roles import Split
from fairquant.runs.data import load_data
from fairquant.runs.folder import Quiet
from fairquant.runs.predictions import read_predictions

#: network, bits, calibration images [N, 3, H, W] -> the quantized network, scales and shifts for how many weights one each.
Peer = Callable[[nn.Module, int, Tensor], tuple[nn.Module, float]]


def torchao_channel(network: nn.Module, bits: int, images: Tensor) -> tuple[nn.Module, float]:
    from torchao.quantization import IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis

    quantize_(network, IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=PerAxis(0)))
    return network, 0.0


def torchao_group(network: nn.Module, bits: int, images: Tensor) -> tuple[nn.Module, float]:
    from torchao.quantization import IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    quantize_(network, IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=PerGroup(32)))
    return network, 1 / 32


def quanto(network: nn.Module, bits: int, images: Tensor) -> tuple[nn.Module, float]:
    from optimum.quanto import freeze, qint2, qint4, quantize

    if bits == 3:
        raise ValueError("it has no such width")
    quantize(network, weights=qint2 if bits == 2 else qint4)
    freeze(network)
    return network, 2 / 128


def nncf_weights(network: nn.Module, bits: int, images: Tensor) -> tuple[nn.Module, float]:
    import nncf

    if bits != 4:
        raise ValueError("it has no such width for weights alone")
    found = nncf.compress_weights(
        network, mode=nncf.CompressWeightsMode.INT4_SYM, dataset=nncf.Dataset([images[:32]]), ratio=1.0, group_size=32,
        all_layers=True, awq=True, scale_estimation=True,
    )  # fmt: skip
    return found, 1 / 32


PEERS: dict[str, Peer] = {
    "torchao, a scale per channel": torchao_channel, "torchao, groups of 32": torchao_group, "optimum-quanto": quanto,
    "NNCF (AWQ, scale estimation)": nncf_weights,
}  # fmt: skip
OURS = ("uniform", "gptq-ptq", "fq-gptq-ptq", "fq-block-rounding-ptq")


def scores(predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> str:
    right = predicted == labels
    classes = [right[labels == c].mean() for c in np.unique(labels) if (labels == c).sum() >= 5]
    worst = min(right[groups == g].mean() for g in np.unique(groups))
    return f"{right.mean():.3f} | {worst:.3f} | {min(classes):.3f}"


@torch.no_grad()
def predicted(network: nn.Module, split: Split, normalization: Normalization) -> np.ndarray:
    network.eval()
    stream = batches(split, 64, normalization, torch.device("cpu"))
    return np.concatenate([network(batch.images).argmax(1).numpy() for batch in stream])


def file_bytes(network: nn.Module, bits: int, per_weight: float) -> float:
    """Linear layers and convolutions at `bits`, with a scale for each row or for each group; the rest in float32."""
    total = 0.0
    weights = {id(m.weight): m.weight for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    for parameter in network.parameters():
        if id(parameter) in weights:
            total += parameter.numel() * (bits / 8 + 4 * per_weight) + (0 if per_weight else 4 * len(parameter))
        else:
            total += 4 * parameter.numel()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("weights")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--bits", default="4,3,2")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    given = parser.parse_args()
    overrides = [
        f"dataset.root={given.data}", f"model.weights={given.weights}", "model.image_size=128", f"seed={given.seed}",
        "tracking.mlflow=null",
    ]  # fmt: skip
    full = fairquant.run(
        "recipes/fitz_deit.yaml", *overrides, "method=fp32", "train.post_training=true", runs=given.runs
    )
    network, plugins = full.load().eval(), discover()
    recipe = read_recipe("recipes/fitz_deit.yaml", [*overrides, "method=fp32"], registry=plugins.registry)
    splits = load_data(recipe, Quiet(), plugins.registry)
    prepared = read_artifact(full.folder / "model.safetensors").metadata["preprocessing"]
    normalization = Normalization(mean=tuple(prepared["mean"]), std=tuple(prepared["std"]))
    split = getattr(splits, given.split)
    drawn = draw_calibration(splits.train, recipe.calibration.images, len(splits.group_names), given.seed)
    images = torch.cat([batch.images for batch in batches(drawn, 64, normalization, torch.device("cpu"))])
    print("| method | bits | MB | accuracy | worst group | worst class of 5 images and more | minutes |")
    found = scores(predicted(network, split, normalization), split.labels, split.groups)
    print(f"| full precision | 32 | {file_bytes(network, 32, 0.0) / 1e6:.2f} | {found} | |")
    for bits in map(int, given.bits.split(",")):
        for name, peer in PEERS.items():
            start = time.perf_counter()
            try:
                small, per_weight = peer(copy.deepcopy(network), bits, images)
                answers = predicted(small, split, normalization)
            except Exception as error:
                print(f"| {name} | {bits} | {type(error).__name__}: {str(error)[:80]} | | | | |", flush=True)
                continue
            minutes = (time.perf_counter() - start) / 60
            size = file_bytes(network, bits, per_weight) / 1e6
            print(
                f"| {name} | {bits} | {size:.2f} | {scores(answers, split.labels, split.groups)} | {minutes:.1f} |",
                flush=True,
            )
        for method in OURS:
            chosen = f"uniform-{bits}-ptq" if method == "uniform" else method
            own = [f"method={chosen}", f"budget.average_bits={bits}"]
            result = fairquant.run("recipes/fitz_deit.yaml", *overrides, *own, runs=given.runs)
            file = "validation" if given.split == "validation" else "predictions"
            after, report = read_predictions(result.folder / f"{file}.npz").after, result.report
            minutes = sum(report["timings"].get(stage, 0.0) for stage in ("importance", "allocation", "rounding")) / 60
            size = report["artifact"]["bytes"] / 1e6
            found = scores(after.predicted, after.labels, after.groups)
            print(f"| {chosen} | {bits} | {size:.2f} | {found} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
