"""One interface to both kinds of file: the packed safetensors in torch, the ONNX file in ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fairquant.artifact.format import matches_seal
from fairquant.artifact.load import load
from fairquant.artifact.metadata import check_metadata
from fairquant.data.reading import ReadImage, read_image
from fairquant.data.transforms import Normalization
from fairquant.errors import NotFinite, UserError
from fairquant.export.graph_checks import check_onnx
from fairquant.roles.dataset import Intensity

#: A file's metadata: classes, groups, preprocessing, plan, recipe, each as its JSON says it.
Metadata = dict[str, Any]
#: Keys of an ONNX file's metadata whose values are text, and no JSON: a digest may consist of digits.
TEXT = ("fairquant", "checksum", "recipe_digest", "activations", "calibration")


class Runtime(Protocol):
    """A loaded file."""

    metadata: Metadata
    name: str

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised images [B, 3, H, W] -> [B, C]."""
        ...


@dataclass
class TorchRuntime:
    """A packed artifact in PyTorch."""

    model: torch.nn.Module
    metadata: Metadata
    name: str = "PyTorch"

    @torch.inference_mode()
    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised images [B, 3, H, W] -> [B, C]."""
        logits: NDArray[np.float32] = self.model(torch.from_numpy(images)).float().numpy()
        return _finite(logits, self.name)


@dataclass
class OnnxRuntime:
    """An exported file in ONNX Runtime, on the CPU."""

    session: Any
    metadata: Metadata
    path: Path
    name: str = "ONNX Runtime"

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised images [B, 3, H, W] -> [B, C]. Raises UserError where the session fails."""
        try:
            logits: NDArray[np.float32] = self.session.run(None, {self.session.get_inputs()[0].name: images})[0]
        except Exception as error:
            raise UserError(f"{self.path}: ONNX Runtime cannot run it: {str(error).strip().splitlines()[0]}") from error
        if logits.shape != (len(images), len(self.metadata["classes"])):
            raise UserError(f"{self.path}: its output is {logits.shape}, not one value for each class")
        return _finite(logits, str(self.path))


def _finite(logits: NDArray[np.float32], who: str) -> NDArray[np.float32]:
    """The logits, if they are numbers. Raises NotFinite."""
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits).all(1)).sum())
        raise NotFinite(f"{who}: its outputs are NaN or infinite for {bad} of {len(logits)} images")
    return logits


def open_runtime(path: Path, threads: int = 0) -> Runtime:
    """By its ending: .safetensors or .onnx. UserError where it cannot be read, was damaged, or is neither."""
    if path.suffix == ".onnx":
        return OnnxRuntime(*_open_onnx(path, threads), path)
    if path.suffix == ".safetensors":
        model = load(path)
        return TorchRuntime(model, model.fairquant_metadata)  # type: ignore[arg-type]
    raise UserError(f"{path}: a .safetensors artifact or an exported .onnx file is wanted")


def _open_onnx(path: Path, threads: int) -> tuple[Any, Metadata]:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f'{path}: needs onnxruntime: pip install "fairquant[deploy]"') from error
    content = check_onnx(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        properties = session.get_modelmeta().custom_metadata_map
        metadata = {key: value if key in TEXT else _plain(value) for key, value in properties.items()}
        if not str(metadata.get("fairquant", "")).startswith("fairquant-onnx-"):
            raise UserError(f"{path}: an ONNX file, but not exported by fairquant (no format in its metadata)")
        if not matches_seal(content, str(properties.get("checksum", "")), content.rfind):
            raise UserError(f"{path}: the file was altered or damaged: its content does not match its checksum")
        metadata = check_metadata(metadata, path, ("classes", "preprocessing"))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: ONNX Runtime refuses it: {str(error).strip().splitlines()[0]}") from error
    return session, metadata


def _plain(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How images are prepared for the file: read with this intensity, resized to a square of image_size pixels, antialiased,
    normalised; as in training. by_caller: the model was given to `fairquant.quantize` with images that were ready for it; how, only
    the caller knows. shape: their height and width, which need not be equal there."""

    shape: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    intensity: Intensity = "full"
    by_caller: bool = False

    @classmethod
    def of(cls, metadata: Metadata, path: Path) -> Preprocessing:
        given = metadata["preprocessing"]
        try:
            size = given["image_size"]
            shape, mean, std = (
                (int(size[0]), int(size[1])) if isinstance(size, list) else (int(size), int(size)),
                tuple(map(float, given["mean"])),
                tuple(map(float, given["std"])),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{path}: its preprocessing is damaged: {given!r}") from error
        if not all(1 <= side <= 4096 for side in shape) or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(f"{path}: its preprocessing is out of range: {given!r}")
        intensity, by_caller = _intensity(given.get("intensity", "full"), path), given.get("prepared_by_caller") is True
        return cls(shape=shape, mean=mean, std=std, intensity=intensity, by_caller=by_caller)

    @property
    def image_size(self) -> int:
        """Pixels along a side. UserError where images are not square."""
        if self.shape[0] != self.shape[1]:
            raise UserError(
                f"the model takes images of {self.shape[0]} x {self.shape[1]} pixels: only square ones are made here"
            )
        return self.shape[0]

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [B, H, W, 3] -> float32 [B, 3, H, W], exactly as training does it."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
        normalised: NDArray[np.float32] = Normalization(self.mean, self.std)(images).numpy()
        return normalised

    def read(self, file: Path) -> ReadImage:
        """One image file, its pixels uint8 [image_size, image_size, 3]. Raises OSError or ValueError where it does not decode,
        UserError where only the caller knows how images are prepared."""
        if self.by_caller:
            raise UserError(
                "the model was quantized from Python with images that were ready for it (fairquant.quantize): the file does not know "
                "how images are prepared. Prepare them as then, and call the model yourself"
            )
        return read_image(file, self.image_size, self.intensity)


def _intensity(given: object, path: Path) -> Intensity:
    if given == "full" or given == "percentile":
        return given
    if isinstance(given, list) and len(given) == 2 and all(isinstance(each, int | float) for each in given):
        low, high = given
        if low < high:
            return float(low), float(high)
    raise UserError(f"{path}: its preprocessing is damaged: intensity {given!r}")


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities [N, C] of logits [N, C], in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    fraction: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
    return fraction


def in_batches(count: int, size: int) -> Sequence[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
