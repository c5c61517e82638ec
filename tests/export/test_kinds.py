"""Every kind of weight in an exported file: as codes, or counted as float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.kinds import KINDS, Pair, Recurrent, Standardized, Transposed, Twice
from helpers.models import Triples

import fairquant
from fairquant.errors import UserError
from fairquant.export.bench import bench_files
from fairquant.export.onnx import ExportOptions, export_onnx
from fairquant.export.ranges import Calibration
from fairquant.export.runtime import open_runtime

pytest.importorskip("onnx")

#: What the exporter computes something else from: a batch norm in another axis, gates in another order, a product of two; and what is unused.
IN_FLOAT = {
    Transposed: ("up",),
    Recurrent: ("cells.weight_hh_l0", "cells.weight_ih_l0"),
    Pair: ("pair",),
    Twice: ("idle",),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_exported_network_of_every_kind_answers_the_same(kind, tmp_path):
    torch.manual_seed(1)
    network = kind()
    with torch.no_grad():
        for tensor in (*network.parameters(), *(each for each in network.buffers() if each.is_floating_point())):
            tensor.add_(0.1 * torch.rand_like(tensor))  # no batch norm is the same in all channels
    data = [Triples(30, seed, classes=3, size=16) for seed in (1, 2, 3)]
    source = fairquant.quantize(
        network, *data, average_bits=3, method="uniform-3-ptq", overrides=["tracking.mlflow=null"]
    ).folder / "model.safetensors"  # fmt: skip
    images = data[2].images
    with torch.no_grad():
        expected = fairquant.load(source, model=kind())(images).numpy()
    out = tmp_path / "model.onnx"
    exported = export_onnx(source, out, ExportOptions(activations="fp32"), None, kind())
    assert exported.in_float == tuple(name for name in IN_FLOAT.get(kind, ()))
    assert exported.rounded == (("conv",) if kind is Standardized else ())
    difference = np.abs(open_runtime(out).logits(images.numpy()) - expected).max()
    assert difference < (0.02 if kind is Standardized else 2e-3) * np.abs(expected).max()
    calibration = Calibration([images.numpy()], [data[2].groups.numpy()], ("a", "b"))
    export_onnx(source, out, ExportOptions(activations="int8"), calibration, kind())
    difference = np.abs(open_runtime(out).logits(images.numpy()) - expected).max()
    assert difference < 0.1 * np.abs(expected).max()


class Fixed(torch.nn.Module):
    """Takes images of 8 x 20 pixels and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3 * 8 * 20, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))


def test_images_that_are_not_square_keep_their_shape(tmp_path):
    torch.manual_seed(1)
    data = [[(torch.randn(3, 8, 20), row % 2, row // 2 % 2) for row in range(24)] for _ in range(3)]
    overrides = ["tracking.mlflow=null"]
    result = fairquant.quantize(Fixed(), *data, average_bits=3, method="uniform-3-ptq", overrides=overrides)
    source, out = result.folder / "model.safetensors", tmp_path / "m.onnx"
    images = torch.stack([each[0] for each in data[2]])
    with torch.no_grad():
        expected = fairquant.load(source, model=Fixed())(images).numpy()
    export_onnx(source, out, ExportOptions(activations="fp32"), None, Fixed())
    runtime = open_runtime(out)
    np.testing.assert_allclose(runtime.logits(images.numpy()), expected, rtol=1e-3, atol=1e-4)
    assert runtime.metadata["preprocessing"]["image_size"] == [8, 20]
    with pytest.raises(UserError, match="the model takes images of 8 x 20 pixels: only square ones are made here"):
        bench_files([out], [1], 0.1, 1)


class FixedBatch(torch.nn.Module):
    """Its view makes a number of the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3 * 8 * 8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.view(len(images), -1))


def test_a_graph_for_one_size_of_batch_is_refused_when_it_is_made(tmp_path):
    torch.manual_seed(1)
    data = [[(torch.randn(3, 8, 8), row % 2, row // 2 % 2) for row in range(24)] for _ in range(3)]
    overrides = ["tracking.mlflow=null"]
    result = fairquant.quantize(FixedBatch(), *data, average_bits=3, method="uniform-3-ptq", overrides=overrides)
    source, out = result.folder / "model.safetensors", tmp_path / "m.onnx"
    with pytest.raises(UserError, match="the exporter fixed the batch to 2 images"):
        export_onnx(source, out, ExportOptions(activations="fp32"), None, FixedBatch())
    assert not out.exists()


class Windows(torch.nn.Module):
    """Attention over [B, heads, windows, tokens, width], with and without a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = torch.nn.Linear(3 * 4, 24), torch.nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        windows = images.unflatten(2, (4, 4)).unflatten(-1, (4, 4))  # [B, 3, 4, 4, 4, 4]
        tokens = windows.permute(0, 2, 4, 3, 1, 5).flatten(1, 2).flatten(-2)  # [B, 16, 4, 12]
        query, key, value = self.project(tokens).unflatten(-1, (3, 2, 4)).permute(3, 0, 4, 1, 2, 5)
        seen = torch.ones(4, 4, dtype=torch.bool).tril()
        masked = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        both = masked + torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen.float(), scale=0.3
        )
        logits: torch.Tensor = self.head(both.mean((2, 3)).flatten(1))
        return logits


def test_attention_over_five_dimensions_is_exported_as_products(tmp_path):
    torch.manual_seed(1)
    network, data = Windows(), [Triples(30, seed, classes=3, size=16) for seed in (1, 2, 3)]
    source = fairquant.quantize(
        network, *data, average_bits=4, method="uniform-4-ptq", overrides=["tracking.mlflow=null"]
    ).folder / "model.safetensors"  # fmt: skip
    export_onnx(source, tmp_path / "model.onnx", ExportOptions(activations="fp32"), None, Windows())
    with torch.no_grad():
        expected = fairquant.load(source, model=Windows())(data[2].images).numpy()
    found = open_runtime(tmp_path / "model.onnx").logits(data[2].images.numpy())
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
