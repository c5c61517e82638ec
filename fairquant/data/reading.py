"""One image file of any kind to 8-bit RGB: deep images by their range of values, and nothing clipped without a word."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairquant.roles.dataset import Intensity

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

PERCENTILES = (0.5, 99.5)
DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N")
#: Tags of TIFF: 0 is white where PHOTOMETRIC is 0; SAMPLE_FORMAT 1 is without a sign.
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
SIXTEEN_BITS = (0.0, 65535.0)


@dataclass(frozen=True, kw_only=True)
class ReadImage:
    """pixels: uint8 [S, S, 3]. kind: what is special about the file ("16-bit", "DICOM", "transparent"; "" for 8-bit pictures).
    low, high: the values that became black and white, largest: the largest that occurs, where the file has more than 8 bits."""

    pixels: Pixels
    kind: str = ""
    low: float = 0.0
    high: float = 255.0
    largest: float = 255.0


def is_nearly_black(kind: str, high: float, largest: float, intensity: Intensity) -> bool:
    """Whether an image (see `ReadImage`) with more than 8 bits has no value in the upper three quarters of what its format can
    hold."""
    return kind in ("16-bit", "DICOM") and intensity == "full" and largest < high / 4


def why_not(error: Exception) -> str:
    """Why an image does not decode: our own words, or those of a library with the kind of error."""
    return str(error) if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: {error}"


def read_image(file: Path, size: int, intensity: Intensity = "full") -> ReadImage:
    """The image in a file; see `decode_image`. Raises OSError besides, where the file cannot be read."""
    return decode_image(file.read_bytes(), file, size, intensity)


def decode_image(content: bytes, file: Path, size: int, intensity: Intensity = "full") -> ReadImage:
    """The content of one image file as RGB of size x size pixels, upright, the aspect ratio not preserved, antialiased.

    Raises what Pillow and pydicom raise for content that they cannot read; ValueError, with the way out, for several frames and
    values without a known range; UserError, which names the file, where pydicom is not installed.
    """
    if content[128:132] == b"DICM":
        from fairquant.data.dicom import read_dicom

        return read_dicom(content, file, size, intensity)
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:  # whose message names an object in memory
        raise ValueError("is no image of a known format" if content else "is an empty file") from None
    with picture as opened:
        frames = getattr(opened, "n_frames", 1)
        if frames > 1 and opened.format != "MPO":  # a photograph with further views: the first is the picture
            raise ValueError(several_frames(frames))
        if opened.mode in (*DEEP_GREY, "I", "F"):
            kind = (
                "16-bit" if opened.mode in DEEP_GREY else f"32-bit {'float' if opened.mode == 'F' else 'whole-number'}"
            )
            read = np.asarray(ImageOps.exif_transpose(opened))
            values = read.view(np.uint32) if _is_unsigned(opened) else read
            full = SIXTEEN_BITS if kind == "16-bit" else None
            return windowed(values, size, kind, intensity, full, inverted=_tag(opened, PHOTOMETRIC) == 0)
        kind = _kind(opened, intensity)
        upright = ImageOps.exif_transpose(opened)
        if kind == "transparent":
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "black"), upright.convert("RGBA"))
        return ReadImage(pixels=squared(upright.convert("RGB"), size), kind=kind)


def _tag(image: Image, number: int) -> object:
    """A tag of a TIFF file; None where there is none."""
    found = getattr(image, "tag_v2", {}).get(number)
    return found[0] if isinstance(found, tuple) and found else found


def _is_unsigned(image: Image) -> bool:
    """Whether 32-bit whole numbers, which Pillow gives as signed ones, have no sign."""
    return image.mode == "I" and _tag(image, BITS) == 32 and _tag(image, SAMPLE_FORMAT) in (None, 1)


def several_frames(frames: int) -> str:
    """What to do with a file of several frames."""
    return f"{frames} frames or pages: save the one that the model is to see as a file of its own"


def _kind(image: Image, intensity: Intensity) -> str:
    """What is special about an image with 8 bits a channel as Pillow gives it."""
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):  # Pillow keeps the upper byte of each channel
        if intensity != "full":
            raise ValueError("16-bit colour is read in its full range only: dataset.intensity: full")
        return "16-bit colour"
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if has_alpha:
        lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
        if isinstance(lowest, int | float) and lowest < 255:
            return "transparent"
    return ""


def squared(image: Image, size: int) -> Pixels:
    """The image resized to size x size."""
    from PIL import Image

    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


#: Rows of an image that are computed together.
ROWS = 256


def windowed(
    values: NDArray[Any],
    size: int,
    kind: str,
    intensity: Intensity,
    full: tuple[float, float] | None,
    inverted: bool = False,
) -> ReadImage:
    """Grey values [H, W], of any kind of number, through the window. full: the range of the format, None where it has none.
    inverted: the smallest value is white."""
    from PIL import Image

    if not np.isfinite(values).all():
        raise ValueError("its values are not all finite numbers")
    if isinstance(intensity, tuple):
        low, high = intensity
    elif intensity == "percentile":
        low, high = (float(edge) for edge in np.percentile(values, PERCENTILES))
    elif full is None:
        raise ValueError(
            f"{kind} values have no full range: set dataset.intensity to percentile or to [low, high], the values that "
            "become black and white"
        )
    else:
        low, high = full
    shown = np.empty(values.shape, np.float32)
    for start in range(0, len(values), ROWS):  # a large image is never held whole in float64
        part = values[start : start + ROWS].astype(np.float64)
        scaled = (part - low) / (high - low) if high > low else part > low  # a window of one value
        shown[start : start + ROWS] = 255 * np.clip(scaled, 0, 1)
    grey = Image.fromarray(shown, mode="F")
    resized = np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))
    pixels = np.rint(255 - resized if inverted else resized).astype(np.uint8)
    return ReadImage(
        pixels=np.repeat(pixels[..., None], 3, 2), kind=kind, low=low, high=high, largest=float(values.max())
    )
