"""What MLflow loads and serves of a logged model (the loader of its pyfunc flavour): pictures in, probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import UserError
from fairquant.export.runtime import Preprocessing, Runtime, in_batches, open_runtime, softmax

if TYPE_CHECKING:
    from pandas import DataFrame

#: The column of the most probable class, beside one column of probabilities for each class.
PREDICTED = "predicted class"
BATCH = 32


@dataclass(frozen=True)
class Served:
    """An artifact behind MLflow's `predict`."""

    runtime: Runtime
    preprocessing: Preprocessing
    classes: tuple[str, ...]

    def predict(self, pixels: NDArray[np.uint8]) -> DataFrame:
        """Raw RGB, uint8 [N, H, W, 3] at the model's size -> a row each: probability by class, and the most probable class.

        The artifact's own preprocessing normalises them. Raises UserError for pixels of another form.
        """
        from pandas import DataFrame

        size = self.preprocessing.image_size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise UserError(
                f"raw RGB pixels are wanted, uint8 [N, {size}, {size}, 3], not {pixels.dtype} {list(pixels.shape)}"
            )
        blocks = [
            softmax(self.runtime.logits(self.preprocessing.normalise(pixels[rows])))
            for rows in in_batches(len(pixels), BATCH)
        ]
        fractions = np.concatenate([np.zeros((0, len(self.classes))), *blocks])
        table = DataFrame(fractions, columns=list(self.classes))
        table[PREDICTED] = [self.classes[best] for best in fractions.argmax(1)]
        return table


def open_served(artifact: Path) -> Served:
    """Raises UserError where the artifact is damaged, or was made from a caller's own nn.Module."""
    runtime = open_runtime(artifact)
    return Served(runtime, Preprocessing.of(runtime.metadata, artifact), tuple(runtime.metadata["classes"]))


def _load_pyfunc(data_path: str) -> Served:
    """MLflow's name for the function that it loads a model with."""
    return open_served(Path(data_path))
