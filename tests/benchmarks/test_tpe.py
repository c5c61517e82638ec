"""Is the search worth its name? TPE against random search on a real objective without training.

Bits of each stage of a small ResNet trained on the isic images, quantized without training; sought is the least loss of the
worst-served group on validation, within 2.5 bits per weight on average. `pytest -m benchmark -n 0 -s tests/benchmarks/test_tpe.py`
"""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from fairquant_datasets.isic2019 import Isic2019
from fairquant_paper.uniform import Uniform
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.data.batching import batches
from fairquant.recipe.search import Objective, Parameter, Search
from fairquant.recipe.sections import ModelSettings, TrainSettings
from fairquant.roles import DataContext
from fairquant.study.storage import open_study
from fairquant.study.trials import suggest
from fairquant.training.loop import Trainer, train
from fairquant.training.model import Model

pytestmark = pytest.mark.benchmark
STAGES = ("conv1", "layer1", "layer2", "layer3", "layer4", "fc")
WIDTHS = (1, 2, 3, 4, 6, 8)
BUDGET, RANDOM, SEEDS = 2.5, 40, 10


@pytest.fixture(scope="module")
def objective(isic_root, tmp_path_factory):
    """bits of each stage -> (loss of the worst group on 200 validation images, plus what is above the budget)."""
    from fairquant.runs.models import build_model

    splits = Isic2019(root=str(isic_root), attribute="age").load(DataContext(2, 48, tmp_path_factory.mktemp("cache")))
    torch.manual_seed(2)
    model, normalize, _ = build_model(ModelSettings(name="resnet10t", image_size=48), len(splits.class_names), False)
    device = torch.device("cpu")
    bound = Model(
        network=model, normalization=normalize, device=device,
        group_names=splits.group_names, class_names=splits.class_names,
    )  # fmt: skip
    settings = TrainSettings(epochs=4, batch_size=64, learning_rate=1e-3, augment="flips")
    train(Trainer(model=bound, train=splits.train, validation=splits.validation, seed=2, checkpoint=None), settings)
    model.eval()
    layers = find_layers(model, "channel")
    narrow = list(batches(splits.validation.subset(np.arange(200)), 200, normalize, device))
    total = sum(layer.weight.numel() for layer in layers)

    def stage(name: str) -> int:
        return next(n for n, s in enumerate(STAGES) if name.startswith(s)) if not name.startswith("stem") else 0

    quantized = {}
    for layer in layers:
        for width in WIDTHS:
            built = Uniform().build(layer.weight.detach(), torch.full((layer.units,), width), WIDTHS)
            quantized[layer.name, width] = built.eval()(layer.weight.detach())
    plain = {layer.name: copy.deepcopy(layer.weight.detach()) for layer in layers}

    @cache
    def value(bits: tuple[int, ...]) -> float:
        with torch.inference_mode():
            average = sum(bits[stage(layer.name)] * layer.weight.numel() for layer in layers) / total
            for layer in layers:
                layer.weight.copy_(quantized[layer.name, bits[stage(layer.name)]])
            losses = torch.cat([F.cross_entropy(model(b.images), b.labels, reduction="none") for b in narrow])
            groups = torch.cat([b.groups for b in narrow])
            worst = max(float(losses[groups == g].mean()) for g in groups.unique())
            for layer in layers:
                layer.weight.copy_(plain[layer.name])
        return min(worst, 20.0) + 10 * max(average - BUDGET, 0.0)

    return value


def best_value(objective, sampler: str, trials: int, seed: int) -> float:
    """The best value after so many trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parameters = tuple(Parameter(path=name, low=0, high=len(WIDTHS) - 1) for name in STAGES)
    search = Search(parameters=parameters, objectives=(Objective("loss", "minimize"),), sampler=sampler)
    study = open_study(optuna.storages.InMemoryStorage(), "search", search, seed)

    def one(trial):
        chosen = suggest(trial, parameters)
        return objective(tuple(WIDTHS[chosen[name]] for name in STAGES))

    study.optimize(one, n_trials=trials)
    return study.best_value


def test_tpe_in_half_the_trials(objective):
    pairs = [
        (best_value(objective, "tpe", RANDOM // 2, seed), best_value(objective, "random", RANDOM, seed))
        for seed in range(SEEDS)
    ]
    tpe, random = np.array(pairs).T
    print(f"\nbest loss of the worst group within {BUDGET} bits, {SEEDS} seeds:")
    print(f"  TPE, {RANDOM // 2} trials: median {np.median(tpe):.3f}, mean {tpe.mean():.3f}")
    print(f"  random, {RANDOM} trials: median {np.median(random):.3f}, mean {random.mean():.3f}")
    print(f"  TPE at least as good in {(tpe <= random).sum()} of {SEEDS} seeds")
    assert np.median(tpe) <= np.median(random)
    assert tpe.mean() <= random.mean()
