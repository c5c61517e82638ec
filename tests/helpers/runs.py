"""What a finished run's file answers once it is loaded again."""

from __future__ import annotations

import numpy as np
import torch

from fairquant.api import RunResult
from fairquant.data.transforms import Normalization
from fairquant.recipe import read_recipe
from fairquant.registry import discover
from fairquant.runs.data import load_data
from fairquant.runs.folder import Quiet
from fairquant.training.model import Model
from fairquant.training.predict import predict


def logits_again(result: RunResult) -> np.ndarray:
    """Logits [N, C] of the run's test images by its model.safetensors."""
    registry = discover().registry
    splits = load_data(read_recipe(result.folder / "recipe.yaml", registry=registry), Quiet(), registry)
    network = result.load()
    how = network.fairquant_metadata["preprocessing"]
    model = Model(
        network=network, normalization=Normalization(tuple(how["mean"]), tuple(how["std"])), device=torch.device("cpu"),
        group_names=splits.group_names, class_names=splits.class_names,
    )  # fmt: skip
    return predict(model, splits.test).logits
