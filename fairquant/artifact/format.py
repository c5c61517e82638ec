"""The artifact's layout, and the checksum that covers every byte of it.

One safetensors file. Tensors:
  <parameter>                 uint8, the packed codes of a quantized layer (fairquant.bits.packing), under its weight's name
  fairquant.bits              uint8, bits of every output channel of every layer, two to a byte
  fairquant.scales            float32, scales of all layers side by side, then shifts of those layers that have them
  fairquant.codebooks         float32, of each layer that has a codebook the codewords of the widths it uses, 2^b each
  anything else               the unquantized state under its own name
Metadata (text): format, checksum, architecture, classes, preprocessing, layers, plan, recipe, audit.
The checksum is sha256 of the whole file with the checksum's own digits replaced by zeros.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from fairquant.errors import UserError

FORMAT = "fairquant-1"
BLANK = "0" * 64
BITS, SCALES, CODEBOOKS = "fairquant.bits", "fairquant.scales", "fairquant.codebooks"


def canonical(content: bytes) -> bytes:
    """The same safetensors file with its metadata in sorted order: the library's own order differs from run to run."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def seal(content: bytes) -> bytes:
    """Fill in the checksum of a file written with BLANK in its place."""
    content = canonical(content)
    mark = b'"checksum":"' + BLANK.encode()
    return fill_seal(content, content.index(mark) + len(mark) - 64)


def fill_seal(content: bytes, at: int) -> bytes:
    """The content with the checksum of all of it in place of the blank at `at`."""
    return content[:at] + hashlib.sha256(content).hexdigest().encode() + content[at + 64 :]


def matches_seal(content: bytes, checksum: str, find: Callable[[bytes], int]) -> bool:
    """Whether a sealed file is unaltered. find: where in the content its checksum's digits stand."""
    at = find(checksum.encode())
    blanked = content[:at] + BLANK.encode() + content[at + 64 :]
    return len(checksum) == 64 and hashlib.sha256(blanked).hexdigest() == checksum


def check_seal(content: bytes, checksum: str, path: Path) -> None:
    """UserError where any byte differs from what was sealed."""
    mark = b'"checksum":"'
    if not matches_seal(content, checksum, lambda digits: content.find(mark + digits) + len(mark)):
        raise UserError(f"{path}: the file was altered or damaged: its content does not match its checksum")


def widths_of(bits: Tensor) -> list[int]:
    """The widths whose codewords a codebook layer with row widths bits [R] stores, ascending."""
    return [width for width in range(1, 9) if bool((bits == width).any())]
