"""What a plan and its rounding cost, stage by stage, for a network of timm with random weights and smooth random images:

python tests/benchmarks/time_rounding.py resnet50 224 512 method=fq-gptq-ptq budget.average_bits=3
"""

from __future__ import annotations

import sys
import tempfile

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fairquant

STAGES = ("importance", "allocation", "rounding")


def main(name: str, pixels: int, count: int, *overrides: str) -> None:
    torch.manual_seed(0)
    sized = {} if name.startswith("res") else {"img_size": pixels}
    network = timm.create_model(name, num_classes=8, **sized)
    images = smooth(count, pixels)
    as_trained(network, images[:128])
    method = next((each.partition("=")[2] for each in overrides if each.startswith("method=")), "fq-gptq-ptq")
    settings = ["tracking.mlflow=null", f"calibration.images={count}", "calibration.batch_size=32", *overrides]
    with tempfile.TemporaryDirectory() as runs:
        result = fairquant.quantize(network, calibration=images, method=method, overrides=settings, runs=runs)
    seconds = [result.report["timings"][stage] for stage in STAGES]
    parts = ", ".join(f"{stage} {each:.0f} s" for stage, each in zip(STAGES, seconds, strict=True))
    print(
        f"{name}, {pixels} px, {count} images, {method}, {torch.get_num_threads()} threads: {parts}, {sum(seconds):.0f} s in all"
    )


def smooth(count: int, pixels: int) -> Tensor:
    """Images [N, 3, H, W] whose neighbouring pixels are alike."""
    noise = torch.randn(count, 3, pixels, pixels)
    return F.interpolate(F.avg_pool2d(noise, 8), (pixels, pixels)) + 0.3 * noise


@torch.no_grad()
def as_trained(network: nn.Module, images: Tensor) -> None:
    """Batch norm statistics of these images, as a trained network has them."""
    network.train()
    for batch in images.split(32):
        network(batch)
    network.eval()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
