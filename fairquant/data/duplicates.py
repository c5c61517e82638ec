"""The same picture more than once: what must stay in one split, and pictures that are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairquant.data.splits import split_name
from fairquant.roles.dataset import IntArray, Pixels

#: Of two copies, the one on this side stays: later ones.
ORDER = ("train", "validation", "test")
#: Pixels of the reduced picture, of its low frequencies that are hashed, and bits by which near-duplicates may differ.
REDUCED, LOW, NEAR = 32, 8, 4
FLAT = 1.0  # standard deviation of a picture without features


def one_side(keys: Sequence[str], digests: Sequence[str]) -> list[str]:
    """For each of N images the key of all that must stay in one split: those with the same key (patient; "" is none), the same
    digest, and so on from these."""
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, (key, digest) in enumerate(zip(keys, digests, strict=True)):
        for name in (("digest", digest), *([("key", key)] if key else [])):
            parent[root(row)] = root(first.setdefault(name, row))
    return [str(root(row)) for row in range(len(keys))]


Rows = tuple[IntArray, IntArray, IntArray]  # of train, validation and test


def together(rows: Rows, digests: Sequence[str]) -> Rows:
    """The rows of each split, in which a picture that occurs more than once (equal digests) is where its first image is."""
    side = np.zeros(len(digests), np.int64)
    for number, members in enumerate(rows):
        side[members] = number
    first: dict[str, int] = {}
    place = np.array([side[first.setdefault(digest, row)] for row, digest in enumerate(digests)])
    train, validation, test = (np.flatnonzero(place == number) for number in range(3))
    return train, validation, test


def separate(splits: Sequence[str], digests: Sequence[str]) -> IntArray:
    """The rows of N images that stay so that no digest is on two sides: those of test, then of validation."""
    order = {name: place for place, name in enumerate(ORDER)}
    place = [order.get(split_name(name), 0) for name in splits]
    last: dict[str, int] = {}
    for each, digest in zip(place, digests, strict=True):
        last[digest] = max(last.get(digest, 0), each)
    return np.array([row for row, digest in enumerate(digests) if place[row] == last[digest]], np.int64)


def near_duplicates(array: Pixels, rows: IntArray, names: Sequence[str]) -> list[str]:
    """Notes that name pairs of nearly equal pictures: rows [M] of array [N, S, S, 3], and their M names."""
    pairs = near_pairs(perceptual_hashes(array, rows))
    flat = {number for number, row in enumerate(rows) if array[int(row)].std() < FLAT}
    pairs = [pair for pair in pairs if not flat & set(pair)]
    notes = []
    if flat:
        notes.append(
            f"{len(flat)} picture(s) have next to no contrast, such as {names[min(flat)]}: they are not compared as near-duplicates"
        )
    if pairs:
        shown = ", ".join(f"{names[one]} ~ {names[other]}" for one, other in pairs[:5])
        notes.append(
            f"{len(pairs)} pair(s) of pictures look nearly the same: {shown}{', ...' if len(pairs) > 5 else ''}"
        )
    return notes


def perceptual_hashes(array: Pixels, rows: IntArray) -> NDArray[np.uint64]:
    """64 bits for each of the rows [M]: which low frequencies of the grey picture are above their median (pHash; Zauner, 2010)."""
    from PIL import Image
    from scipy.fft import dctn

    bits = np.zeros((len(rows), LOW * LOW), bool)
    for number, row in enumerate(rows):
        grey = Image.fromarray(array[int(row)]).convert("L").resize((REDUCED, REDUCED), Image.Resampling.BOX)
        low = dctn(np.asarray(grey, np.float64))[:LOW, :LOW].ravel()
        bits[number] = low > np.median(low[1:])
    packed: NDArray[np.uint64] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return packed


def near_pairs(hashes: NDArray[np.uint64], most: int = NEAR) -> list[tuple[int, int]]:
    """Pairs of the M hashes that differ in at most `most` bits."""
    pairs: list[tuple[int, int]] = []
    for row in range(len(hashes) - 1):
        near = np.flatnonzero(np.bitwise_count(hashes[row + 1 :] ^ hashes[row]) <= most)
        pairs += [(row, row + 1 + int(other)) for other in near]
    return pairs
