"""The logged model of a run: MLflow's pyfunc flavour around the artifact, so that it can be served and registered.

No pickle and no code is stored: the flavour names its loader, `fairquant_mlflow.served`, which opens the artifact. Nothing
here changes the caller's active run or tracking address.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fairquant.artifact.header import read_header
from fairquant.recipe.events import Report
from fairquant_mlflow.store import LONGEST

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

NAME = "model"  # runs:/<run>/model
REQUIRED = ("fairquant", "mlflow", "torch", "torchvision", "timm", "numpy", "safetensors")
EXAMPLE = "serving_input_example.json"


def log_model(client: MlflowClient, run_id: str, artifact: Path, report: Report) -> str | None:
    """Log the artifact as the run's model and return its id; where it cannot be, a tag of the run says why."""
    try:
        architecture = read_header(artifact).metadata["architecture"]
        if architecture.get("source") != "timm":
            kind = architecture.get("class", "?")
            client.set_tag(run_id, "model", f"not logged: made from your own nn.Module ({kind}), which the file lacks")
            return None
        return _create(client, run_id, artifact, report)
    except Exception as error:  # such as a server older than MLflow 3: the rest of the run is logged all the same
        client.set_tag(run_id, "model", f"not logged: {type(error).__name__}: {error}"[:LONGEST])
        return None


def _create(client: MlflowClient, run_id: str, artifact: Path, report: Report) -> str:
    from mlflow.entities import LoggedModelOutput

    tags = {
        "method": report["method"], "sha256": report["artifact"]["sha256"], "accept": report["accept"]["answer"],
    }  # fmt: skip
    model = client.create_logged_model(
        client.get_run(run_id).info.experiment_id, name=NAME, source_run_id=run_id, tags=tags,
        params={"seed": str(report["seed"]), "average_bits": f"{report['bits']['average']:.4f}"},
        model_type="image-classification",
    )  # fmt: skip
    model_id: str = model.model_id
    try:
        with TemporaryDirectory() as folder:
            save(Path(folder) / NAME, artifact, model)
            client.log_model_artifacts(model_id, str(Path(folder) / NAME))
        client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    except Exception:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
    return model_id


def save(place: Path, artifact: Path, model: LoggedModel) -> None:
    """Write the model's folder: MLmodel, the artifact, the requirements, the signature and an example of noise."""
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model

    metadata = read_header(artifact).metadata
    size = int(metadata["preprocessing"]["image_size"])
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)  # never a patient's picture
    mlflow.pyfunc.save_model(
        str(place), loader_module="fairquant_mlflow.served", data_path=str(artifact), signature=signature(size, metadata["classes"]),
        input_example=noise, pip_requirements=requirements(),
        mlflow_model=Model(
            artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=model.source_run_id, model_id=model.model_id
        ),
    )  # fmt: skip
    example = place / EXAMPLE  # MLflow writes a line for each number: four times the size
    example.write_text(
        json.dumps(json.loads(example.read_text(encoding="utf-8")), separators=(",", ":")), encoding="utf-8"
    )


def signature(size: int, classes: list[str]) -> ModelSignature:
    """Raw RGB pixels in; a probability for each class and the most probable class out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    from fairquant_mlflow.served import PREDICTED

    pixels = Schema([TensorSpec(np.dtype("uint8"), (-1, size, size, 3))])
    return ModelSignature(
        pixels, Schema([*(ColSpec("double", name) for name in classes), ColSpec("string", PREDICTED)])
    )


def requirements() -> list[str]:
    """What serving needs, at the versions installed here (without local labels such as +cpu, which no index has)."""
    pinned = []
    for name in REQUIRED:
        try:
            pinned.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:  # a checkout on the path
            pinned.append(name)
    return pinned
