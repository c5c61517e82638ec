"""Pictures of the listed images on report.html: only where someone asks for them, since they show patients."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from fairquant.files import write_atomically
from fairquant.roles import Images

_PLACE = re.compile(r"<!--image (\d+)-->(?:<img [^>]*>)?")
WIDTH = 144  # pixels


def show_images(page: Path, images: Images) -> int:
    """Put a small picture beside each image that the page lists; images: of the test split. Returns how many there are."""

    def place(found: re.Match[str]) -> str:
        return f"<!--image {found[1]}-->{_picture(images, int(found[1]))}"

    text, count = _PLACE.subn(place, page.read_text("utf-8"))
    write_atomically(page, text.encode())
    return count


def hide_images(page: Path) -> None:
    """Take the pictures off the page."""
    text = _PLACE.sub(lambda found: f"<!--image {found[1]}-->", page.read_text("utf-8"))
    write_atomically(page, text.encode())


def _picture(images: Images, row: int) -> str:
    """An image [3, H, W] of the split as an HTML element; numbers other than bytes are stretched to the whole range."""
    pixels = images[row].numpy()
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture.thumbnail((WIDTH, WIDTH))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}">'
