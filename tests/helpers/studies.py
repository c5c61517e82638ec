"""A recipe that studies can search in seconds."""

from __future__ import annotations

from pathlib import Path

HEAD = "dataset: {name: synthetic-lesions, images: 120}\nmodel: {name: resnet10t, image_size: 32}\nmethod: fq-qat-ptq\n"
SMALL = "baseline: {epochs: 1, batch_size: 32}\ncalibration: {images: 32, batch_size: 32}\ntracking: {mlflow: null}\n"
SEARCH = (
    "search:\n"
    "  parameters:\n"
    "    budget.average_bits: {low: 1.0, high: 4.0}\n"
    "    allocator.name: [knapsack, minimax, quantile]\n"
    "    allocator.levels: {choices: [[0, 4], [1, 2]], when: {allocator.name: quantile}}\n"
    "    allocator.fractions: {choices: [[0.5, 0.5]], when: {allocator.name: quantile}}\n"
    "  objectives: {worst-group-accuracy: maximize, bits: minimize}\n"
    "  constraints: {accuracy: {at_least: baseline - 0.5}, megabytes: {at_most: 10}}\n"
    "  sampler: random\n"
)


def write(text: str, name: str = "searched.yaml") -> str:
    Path(name).write_text(text)
    return name
