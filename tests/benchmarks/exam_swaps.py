"""Could other bits be better than a plan? Every swap of one bit, and every two of them, around the plan of a trained network.

python tests/benchmarks/exam_swaps.py FOLDER [--runs DIR] [--seeds 2,42,2026] [KEY=VALUE ...]
FOLDER: ISIC 2019. A small ResNet with one width for each layer, trained under the certified plan's bits. A swap gives a layer one
width more and takes one from another, within the budget; two swaps change four layers. Layers get the grid of their new width
for the weights under the trained ones, and the loss is that of validation images; no test image is read. The best swap of half of
the images is judged on the other half: the difference of its loss, with the 95 % bootstrap interval over images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from fairquant.api import ValidationOnly, execute
from fairquant.bits import Attachment
from fairquant.bits.copies import copied
from fairquant.data.batching import batches
from fairquant.recipe import read_recipe
from fairquant.registry import discover
from fairquant.roles import Splits
from fairquant.runs import pipeline
from fairquant.runs.folder import Quiet
from fairquant.training.model import Model

SETTING = [
    "model.name=resnet10t", "model.pretrained=false", "model.image_size=32", "baseline.epochs=15", "baseline.batch_size=64",
    "train.batch_size=64", "train.epochs=8", "train.learning_rate=1e-3", "budget.average_bits=2", "quantize.units=tensor",
    "method=fq-qat", "quantize.fallback=null", "tracking.mlflow=null",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", default="2,42,2026")
    given = parser.parse_intermixed_args()
    plugins, train = discover(), pipeline.train_quantized

    def then_swap(recipe, run, splits, model, baseline, attachment, replan):  # type: ignore[no-untyped-def]
        train(recipe, run, splits, model, baseline, attachment, replan)
        report(Swaps.around(attachment, model, splits), recipe.seed)

    pipeline.train_quantized = then_swap
    for seed in given.seeds.split(","):
        overrides = [*SETTING, *given.overrides, f"dataset.root={given.data}", f"seed={seed}"]
        recipe = read_recipe("recipes/isic_resnet18.yaml", overrides, registry=plugins.registry)
        execute(
            recipe,
            plugins,
            given.runs,
            Quiet(),
            validation_only=ValidationOnly(watch=lambda stage, values: None),
            wait=True,
        )


@dataclass(frozen=True, kw_only=True)
class Swaps:
    """weights: layer -> its quantized weight with one width less, its own, and one more (None: there is no such width); bits
    [layer]; sizes [layer]; budget: the most that all may cost, in bits."""

    model: Model
    splits: Splits
    weights: Mapping[str, tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None]]
    bits: Mapping[str, int]
    sizes: Mapping[str, int]
    budget: float

    @classmethod
    @torch.no_grad()
    def around(cls, attachment: Attachment, model: Model, splits: Splits) -> Swaps:
        columns, weights, bits = attachment.choices.columns, {}, {}
        for layer, quantizer in zip(attachment.layers, attachment.quantizers, strict=True):
            latent, own = layer.weight.detach(), int(quantizer.bits())
            place = columns.index(own)

            def at(index: int, latent: torch.Tensor = latent) -> torch.Tensor | None:
                if not 0 <= index < len(columns):
                    return None
                return attachment.quantizer.build(latent, torch.tensor([columns[index]]), columns)(latent).detach()

            weights[layer.name], bits[layer.name] = (at(place - 1), quantizer(latent).clone(), at(place + 1)), own
        sizes = {layer.name: layer.weight.numel() for layer in attachment.layers}
        network = copied(model.network, quantized=True)
        return cls(
            model=replace(model, network=network), splits=splits, weights=weights, bits=bits, sizes=sizes,
            budget=attachment.budget.average_bits * sum(sizes.values()),
        )  # fmt: skip

    def moves(self, swaps: int) -> Iterator[dict[str, int]]:
        """Layer -> +1 or -1, for every choice of as many layers up as down that the budget allows."""
        spent = sum(self.sizes[name] * bits for name, bits in self.bits.items())
        ups = [name for name, (_, _, more) in self.weights.items() if more is not None]
        downs = [name for name, (less, _, _) in self.weights.items() if less is not None]
        for up in combinations(ups, swaps):
            for down in combinations([name for name in downs if name not in up], swaps):
                if spent + sum(map(self.sizes.get, up)) - sum(map(self.sizes.get, down)) <= self.budget:
                    yield dict.fromkeys(up, 1) | dict.fromkeys(down, -1)

    @torch.no_grad()
    def losses(self, moves: Mapping[str, int]) -> NDArray[np.float64]:
        """Cross-entropy of every validation image [n] with the layers' bits changed."""
        parameters = dict(self.model.network.named_parameters())
        names = {name: next(key for key in parameters if key in (name, f"{name}.weight")) for name in moves}
        for name, by in moves.items():
            parameters[names[name]].copy_(self.weights[name][1 + by])
        found = [
            cross_entropy(self.model.network(batch.images), batch.labels, reduction="none").double().numpy()
            for batch in batches(self.splits.validation, 256, self.model.normalization, torch.device("cpu"))
        ]
        for name in moves:
            parameters[names[name]].copy_(self.weights[name][1])
        return np.concatenate(found)


def report(swaps: Swaps, seed: int) -> None:
    plan = swaps.losses({})
    draw = np.random.default_rng(seed)
    chooses = draw.permutation(len(plan)) < len(plan) // 2
    print(f"seed {seed}: loss of the plan {plan.mean():.4f}; bits", dict(swaps.bits), flush=True)
    for count in (1, 2):
        moves = list(swaps.moves(count))
        differences = np.stack([swaps.losses(each) - plan for each in moves])
        best = int(differences[:, chooses].mean(1).argmin())
        judged = differences[best, ~chooses]
        low, high = np.quantile(judged[draw.integers(0, len(judged), (2000, len(judged)))].mean(1), [0.025, 0.975])
        better = (differences.mean(1) < 0).sum()
        print(
            f"seed {seed}: {count} swap(s): {len(moves)} within the budget, {better} with a lower loss on all images, the lowest by "
            f"{-differences.mean(1).min():.4f}; chosen on half: {differences[best, chooses].mean():+.4f}, on the other half "
            f"{judged.mean():+.4f} [{low:+.4f}, {high:+.4f}] {moves[best]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
