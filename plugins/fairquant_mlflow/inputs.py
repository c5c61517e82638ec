"""The data set of a run as MLflow knows data sets: an input with its digest, its schema and its counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fairquant.recipe.events import DatasetReport
from fairquant.recipe.schema import Recipe

if TYPE_CHECKING:
    from mlflow.entities import Dataset
    from mlflow.tracking import MlflowClient

LONGEST_DIGEST = 36  # characters that MLflow accepts; the whole fingerprint is a tag of the run
LONGEST_SOURCE = 60_000
CONTEXT = "training and audit"


def log_dataset(client: MlflowClient, run_id: str, recipe: Recipe, dataset: DatasetReport) -> Dataset:
    """Log the data set as an input of the run; returns it as MLflow stores it."""
    from mlflow.entities import DatasetInput, InputTag

    entity = dataset_of(recipe, dataset)
    client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", CONTEXT)])])
    return entity


def dataset_of(recipe: Recipe, dataset: DatasetReport) -> Dataset:
    """source: the recipe's section `dataset`; schema: of images and classes; profile: counts by split, class and group."""
    import numpy as np
    from mlflow.data.schema import TensorDatasetSchema
    from mlflow.entities import Dataset
    from mlflow.types import Schema, TensorSpec

    size, counts = recipe.model.image_size, dataset["counts"]
    schema = TensorDatasetSchema(
        features=Schema([TensorSpec(np.dtype("uint8"), (-1, size, size, 3), "images")]),
        targets=Schema([TensorSpec(np.dtype("int64"), (-1,), "classes")]),
    )
    profile = {
        "num_rows": sum(int(counts.get(split, 0)) for split in ("train", "validation", "test")),
        "classes": dataset["classes"], "attributes": dataset["attributes"], **counts,
    }  # fmt: skip
    return Dataset(
        name=dataset["name"], digest=dataset["fingerprint"][:LONGEST_DIGEST], source_type="fairquant",
        source=json.dumps(recipe.dataset.to_dict())[:LONGEST_SOURCE], schema=json.dumps(schema.to_dict()),
        profile=json.dumps(profile),
    )  # fmt: skip
