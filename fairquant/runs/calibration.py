"""The images that a plan is made with, and those that it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from fairquant.data.batching import batches, draw_calibration
from fairquant.recipe.schema import Recipe
from fairquant.roles import Batch, Split, Splits
from fairquant.training.model import Model


@dataclass(frozen=True, kw_only=True)
class CalibrationImages:
    """recipe: its section `calibration` and its seed; splits: by the parts that the recipe protects."""

    recipe: Recipe
    splits: Splits
    model: Model

    def images(self) -> Split:
        """The dataset's own calibration images, or a draw of training images with each group equally."""
        return self.splits.calibration or self._draw(self.splits.train)

    def batches(self) -> Iterator[Batch]:
        """The calibration images, normalised, on the model's device."""
        return self.stream(self.images())()

    def for_probes(self) -> Split:
        """Those calibration images on which many plans are measured."""
        images = self.images()
        return images.subset(np.arange(min(self.recipe.calibration.probe_images, len(images))))

    def unseen(self) -> Split:
        """Validation images, each group equally, which no plan was made with; calibration images where there are none."""
        validation = self.splits.validation
        return self._draw(validation) if len(validation) else self.images()

    @property
    def has_unseen(self) -> bool:
        """Whether `unseen` are other images than the plan is made with: not where calibration images stand in for validation."""
        return bool(len(self.splits.validation)) and not {*self.images().ids} & {*self.splits.validation.ids}

    def stream(self, images: Split) -> Callable[[], Iterator[Batch]]:
        """Images in batches, as often as it is called."""
        size = self.recipe.calibration.batch_size
        return partial(batches, images, size, self.model.normalization, self.model.device)

    def _draw(self, images: Split) -> Split:
        return draw_calibration(images, self.recipe.calibration.images, len(self.splits.group_names), self.recipe.seed)
