"""A DICOM file as an image: its values rescaled, shown through its own window (PS3.3 C.11.1 and C.11.2), MONOCHROME1 inverted."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairquant.data.reading import ReadImage, several_frames, squared, windowed
from fairquant.errors import UserError
from fairquant.roles.dataset import Intensity

#: Pixels of an image, and bytes of a file when it is unpacked, at most.
MOST_PIXELS, UNPACKED = 2 * 10**8, 2 * 10**9
#: Transfer syntaxes (PS3.5 A.2 and A.5).
EXPLICIT, DEFLATED = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99"
Floats = NDArray[np.float64]
NEEDED = (
    "PhotometricInterpretation",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "BitsStored",
    "PixelRepresentation",
    "PixelData",
)
WAY_OUT = "set dataset.intensity to percentile or to [low, high]"


def read_dicom(content: bytes, file: Path, size: int, intensity: Intensity) -> ReadImage:
    """See `fairquant.data.reading.decode_image`. Raises ValueError for what cannot be read, with the way out."""
    try:
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    except ImportError as error:
        raise UserError(f"{file}: reading DICOM needs pydicom. Run: pip install 'fairquant[dicom]'") from error
    data = _dataset(content)
    if (frames := int(data.get("NumberOfFrames") or 1)) > 1:
        raise ValueError(several_frames(frames))
    colours = str(data.PhotometricInterpretation)
    with _decoding():
        stored = data.pixel_array
        if colours == "PALETTE COLOR":
            stored = apply_color_lut(stored, data)
            return _colours(stored, int(data.RedPaletteColorLookupTableDescriptor[2]), size, intensity)
        if int(data.SamplesPerPixel) > 1:
            return _colours(stored, int(data.BitsStored), size, intensity)
        values = np.asarray(apply_modality_lut(stored, data), np.float64)
        full = None
        if intensity == "full":
            values, full = _own_window(values, data)
    return windowed(values, size, "DICOM", intensity, full, inverted=colours == "MONOCHROME1")


def _dataset(content: bytes) -> Any:  # a pydicom Dataset, which is untyped
    """The file's elements. ValueError where what an image needs is missing, or where it would be larger than any image."""
    import pydicom

    data = pydicom.dcmread(io.BytesIO(_inflated(content)))
    if missing := [name for name in NEEDED if data.get(name) is None]:
        raise ValueError(f"has no {', '.join(missing)}: it is no image")
    if int(data.Rows) * int(data.Columns) > MOST_PIXELS:
        raise ValueError(f"{data.Rows} x {data.Columns} pixels are more than {MOST_PIXELS / 1e6:.0f} million")
    return data


def _inflated(content: bytes) -> bytes:
    """A file whose elements are deflated, unpacked up to a limit, which pydicom does not have; any other as it is."""
    if DEFLATED not in content:
        return content
    start = 144 + int.from_bytes(content[140:144], "little")  # behind the group of the file's own elements
    if DEFLATED not in content[144:start] or DEFLATED in content[start:]:
        raise ValueError("its deflated elements do not begin where it says")
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:], UNPACKED)
    if len(unpacked) == UNPACKED:
        raise ValueError(f"unpacks to more than {UNPACKED / 1e9:.0f} GB")
    return content[:start].replace(DEFLATED, EXPLICIT.ljust(len(DEFLATED), b"\0")) + unpacked


@contextmanager
def _decoding() -> Iterator[None]:
    """Whatever pydicom and its decoders raise is a ValueError."""
    try:
        yield
    except (MemoryError, ValueError):
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise ValueError(f"its pixels cannot be decoded: {reason}") from error


def _colours(stored: Any, depth: int, size: int, intensity: Intensity) -> ReadImage:
    """stored [H, W, 3], of which so many bits are used."""
    from PIL import Image

    if intensity != "full":
        raise ValueError("colour DICOM is read in its full range only: dataset.intensity: full")
    depth = min(max(depth, 8), 8 * stored.dtype.itemsize)
    return ReadImage(
        pixels=squared(Image.fromarray((stored >> (depth - 8)).astype(np.uint8)), size), kind="DICOM",
        high=2.0**depth - 1, largest=float(stored.max()),
    )  # fmt: skip


def _own_window(values: Floats, data: Any) -> tuple[Floats, tuple[float, float]]:
    """The values [H, W] as the file wants them shown, and which of these are black and white."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    if data.get("VOILUTSequence"):
        shown = np.asarray(apply_voi_lut(values.astype(np.int64), data), np.float64)
        return shown, (0.0, 2.0 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    if data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        centre, width = (
            float(each[0] if isinstance(each, list | tuple) or hasattr(each, "__iter__") else each)
            for each in (data.WindowCenter, data.WindowWidth)
        )
        if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
            raise ValueError(f"its window is {width:g} wide around {centre:g}: {WAY_OUT}")
        function = str(data.get("VOILUTFunction") or "LINEAR")
        if function == "SIGMOID":
            return 1 / (1 + np.exp(-4 * (values - centre) / width)), (0.0, 1.0)
        if function == "LINEAR_EXACT":
            return values, (centre - width / 2, centre + width / 2)
        return values, (centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
    if data.get("ModalityLUTSequence"):  # the values are those of the table
        every = np.arange(min(2 ** int(data.BitsStored), 2**16), dtype=np.uint16)
        return values, (0.0, 2.0 ** int(apply_modality_lut(every, data).max()).bit_length() - 1)
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    edges = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    low, high = sorted(slope * edge + intercept for edge in edges)
    return values, (low, high)
