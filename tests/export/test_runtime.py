"""Either file opened, or refused whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.artifacts import CLASSES, SIZE, random_images
from scipy.special import softmax as scipy_softmax

from fairquant.data.transforms import Normalization
from fairquant.errors import UserError
from fairquant.export.runtime import Preprocessing, in_batches, open_runtime, softmax


def mutations(content: bytes, count: int) -> Iterator[bytes]:
    """Truncated, altered, overwritten, lengthened, spliced."""
    draw = np.random.default_rng(7)
    for number in range(count):
        kind, at = number % 5, int(draw.integers(0, len(content)))
        changed = bytearray(content)
        if kind == 0:
            changed = changed[:at]
        elif kind == 1:
            changed[at] ^= int(draw.integers(1, 256))
        elif kind == 2:
            changed[at : at + 64] = draw.bytes(64)
        elif kind == 3:
            changed += draw.bytes(int(draw.integers(1, 4000)))
        else:
            del changed[at : at + int(draw.integers(1, 5000))]
        if bytes(changed) != content:
            yield bytes(changed)


@pytest.mark.parametrize("format", ["untrained_artifact", "untrained_export"])
def test_two_hundred_mutated_files_are_refused(format, request, tmp_path):
    """Every altered byte is: both formats have a checksum over the whole file."""
    source = request.getfixturevalue(format)
    bad, refused = tmp_path / f"bad{source.suffix}", 0
    for changed in mutations(source.read_bytes(), 220):
        bad.write_bytes(changed)
        with pytest.raises(UserError, match=r"bad\."):
            open_runtime(bad)
        refused += 1
    assert refused >= 200


PREPROCESSING = {"image_size": 32, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": "x"}, "is damaged"), ({"mean": 3}, "is damaged"), ({"image_size": 0}, "is out of range"), ({"image_size": [8, 5000]}, "is out of range"),
        ({"std": [0.2, 0.2, 0.0]}, "is out of range"), ({"mean": [0.5]}, "is out of range"),
    ],
)  # fmt: skip
def test_preprocessing_that_cannot_be_is_refused(change, message):
    assert Preprocessing.of({"preprocessing": PREPROCESSING}, Path("m.onnx")).image_size == 32
    with pytest.raises(UserError, match=f"m.onnx: its preprocessing {message}"):
        Preprocessing.of({"preprocessing": PREPROCESSING | change}, Path("m.onnx"))


def test_images_are_normalised_exactly_as_in_training():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    ours = Preprocessing.of({"preprocessing": PREPROCESSING}, Path("m.onnx")).normalise(pixels)
    training = Normalization(tuple(PREPROCESSING["mean"]), tuple(PREPROCESSING["std"]))
    assert np.array_equal(ours, training(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy())


def test_only_our_two_kinds_of_files_are_opened(tmp_path):
    with pytest.raises(UserError, match="a .safetensors artifact or an exported .onnx file is wanted"):
        open_runtime(tmp_path / "model.pt")


def test_both_files_answer_with_one_value_for_each_class(untrained_artifact, untrained_export):
    for file in (untrained_artifact, untrained_export):
        runtime = open_runtime(file)
        assert runtime.logits(random_images(SIZE, 3)).shape == (3, len(CLASSES))
        assert runtime.metadata["classes"] == CLASSES


def test_probabilities_and_batches():
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) * 50
    assert softmax(logits) == pytest.approx(scipy_softmax(logits.astype(float), 1))
    assert list(in_batches(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]


@pytest.mark.parametrize("digest", ["582926295816", "1e5000000000", "null", "[1]"])
def test_text_in_the_metadata_stays_text_whatever_it_consists_of(untrained_export, tmp_path, digest):
    onnx = pytest.importorskip("onnx")
    from fairquant.export.onnx import sealed

    model = onnx.load(untrained_export)
    for each in model.metadata_props:
        if each.key == "recipe_digest":
            each.value = digest
    file = tmp_path / "m.onnx"
    file.write_bytes(sealed(model))
    assert open_runtime(file).metadata["recipe_digest"] == digest
