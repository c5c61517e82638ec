"""Procedural skin lesions on six skin tones: no download, no patient data, and a real gap between subgroups."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fairquant.data.splits import LabelledImages, make_splits, split_rows
from fairquant.roles.dataset import DataContext, Splits, SplitSeed

Floats = NDArray[np.float32 | np.float64]

#: Skin tones I-VI (RGB, 0-1) and how common each is in the data: dark skin is rare, as in practice.
MOST_IMAGES = 1_000_000
TONES = np.array(
    [[0.96, 0.84, 0.77], [0.91, 0.76, 0.65], [0.82, 0.65, 0.51], [0.68, 0.49, 0.35], [0.47, 0.32, 0.22], [0.30, 0.20, 0.15]],
    np.float32,
)  # fmt: skip
TONE_FRACTIONS = np.array([0.24, 0.24, 0.20, 0.14, 0.10, 0.08])
#: Contrast between lesion and skin: lower on darker skin.
CONTRAST = np.array([1.0, 0.95, 0.85, 0.70, 0.52, 0.42], np.float32)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Appearance of a class. fraction: of the images; size: range of the radius (fraction of the image); oval, rough: shape
    and irregularity of the border; colour: difference from the skin (RGB, 0-1); spots: amount of dark dots; ring: strength
    of a pigmented rim; two_tone: strength of a second colour on one side."""

    name: str
    fraction: float
    size: tuple[float, float]
    oval: float
    rough: float
    colour: tuple[float, float, float]
    spots: float = 0.0
    ring: float = 0.0
    two_tone: float = 0.0


KINDS = (
    _Kind(name="nevus", fraction=0.38, size=(0.16, 0.30), oval=0.10, rough=0.03, colour=(-0.30, -0.32, -0.28)),
    _Kind(
        name="melanoma",
        fraction=0.16,
        size=(0.20, 0.36),
        oval=0.30,
        rough=0.16,
        colour=(-0.38, -0.38, -0.30),
        spots=0.5,
        two_tone=0.8,
    ),
    _Kind(
        name="keratosis",
        fraction=0.16,
        size=(0.18, 0.34),
        oval=0.15,
        rough=0.08,
        colour=(-0.18, -0.24, -0.30),
        spots=1.0,
    ),
    _Kind(
        name="carcinoma", fraction=0.14, size=(0.16, 0.30), oval=0.20, rough=0.07, colour=(0.02, -0.20, -0.18), ring=0.8
    ),
    _Kind(name="vascular", fraction=0.09, size=(0.12, 0.24), oval=0.12, rough=0.05, colour=(0.06, -0.34, -0.26)),
    _Kind(
        name="dermatofibroma",
        fraction=0.07,
        size=(0.14, 0.26),
        oval=0.10,
        rough=0.04,
        colour=(-0.16, -0.22, -0.20),
        ring=-0.9,
    ),
)


@dataclass(frozen=True)
class SyntheticLesions:
    """Six classes of lesions that differ in shape, border, colour and texture, on six skin tones, in unequal numbers.

    Lesions have less contrast on darker skin (see CONTRAST), so that a classifier is less accurate on those groups, and
    loses more on them when bits are reduced. groups: "six" tones or "binary" (I-III / IV-VI). noise: standard deviation
    per pixel (0-1). The data depend only on split_seed (null: the run's seed).
    """

    private: ClassVar[tuple[str, ...]] = ()
    images: int = 3000
    groups: str = "binary"
    noise: float = 0.05
    split_seed: SplitSeed | None = 42

    def __post_init__(self) -> None:
        if self.groups not in ("binary", "six"):
            raise ValueError(f"groups: 'binary' or 'six', got {self.groups!r}")
        if not 60 <= self.images <= MOST_IMAGES:
            raise ValueError(f"images: must be from 60 to {MOST_IMAGES}, got {self.images!r}")

    def check(self) -> list[str]:
        """Nothing is ever missing."""
        return []

    def load(self, context: DataContext) -> Splits:
        """Draw the images and split them, stratified by class and skin tone."""
        seed = context.seed if self.split_seed is None else self.split_seed
        draw = np.random.default_rng([seed, 0x5E5])
        fractions = np.array([kind.fraction for kind in KINDS])
        labels = draw.choice(len(KINDS), self.images, p=fractions / fractions.sum()).astype(np.int64)
        tones = draw.choice(6, self.images, p=TONE_FRACTIONS).astype(np.int64)
        advance = context.progress("drawing lesions", self.images) if context.progress else None
        array = np.empty((self.images, context.image_size, context.image_size, 3), np.uint8)
        for row in range(self.images):
            array[row] = draw_lesion(KINDS[labels[row]], int(tones[row]), context.image_size, self.noise, draw)
            if advance is not None:
                advance(1)
        if self.groups == "six":
            groups, names = tones, tuple(f"tone {numeral}" for numeral in ("I", "II", "III", "IV", "V", "VI"))
        else:
            groups, names = (tones >= 3).astype(np.int64), ("tones I-III", "tones IV-VI")
        digest = hashlib.sha256(f"{sorted(asdict(self).items())}{seed}{context.image_size}".encode()).hexdigest()
        images = LabelledImages(
            array=array,
            labels=labels,
            groups=groups,
            ids=[f"lesion-{row:05d}" for row in range(self.images)],
            class_names=[kind.name for kind in KINDS],
            group_names=names,
            attributes=("skin tone",),
            digest=digest,
            notes=["synthetic images: the results do not apply to patients"],
        )
        return make_splits(images, split_rows(labels, tones, seed))


def draw_lesion(kind: _Kind, tone: int, size: int, noise: float, draw: np.random.Generator) -> NDArray[np.uint8]:
    """One image, uint8 [size, size, 3]; noise: standard deviation per pixel (0-1)."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    centre = draw.uniform(-0.25, 0.25, 2)
    turn = draw.uniform(0, np.pi)
    dx, dy = x - centre[0], y - centre[1]
    major_axis, minor_axis = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    stretch = 1 + kind.oval * draw.uniform(0.3, 1)
    distance = np.hypot(major_axis / stretch, minor_axis * stretch)
    angle = np.arctan2(minor_axis, major_axis)
    border = np.zeros_like(x)
    for wave in range(2, 8):
        border += kind.rough * draw.normal() * np.cos(wave * angle + draw.uniform(0, 2 * np.pi)) / np.sqrt(wave)
    radius = 2 * draw.uniform(*kind.size) * (1 + border)
    inside = _smooth((radius - distance) / 0.06)

    skin = TONES[tone] * draw.uniform(0.92, 1.06) + draw.normal(0, 0.015, 3)
    shade = 1 + 0.10 * (x * draw.normal() + y * draw.normal())  # uneven light
    strength = CONTRAST[tone] * draw.uniform(0.55, 1.0)
    colour = np.array(kind.colour, np.float32) * strength * (0.5 + TONES[tone].mean())
    lesion = np.ones_like(x)[..., None] * colour
    if kind.two_tone:
        side = _smooth((major_axis - draw.uniform(-0.1, 0.1)) / 0.08)[..., None]
        lesion = lesion + side * kind.two_tone * strength * np.array([-0.10, 0.02, 0.10], np.float32)
    if kind.ring:
        rim = np.exp(-(((distance / np.maximum(radius, 1e-3)) - 0.85) ** 2) / 0.02)[..., None]
        lesion = lesion * (1 + kind.ring * rim)
    image = skin * shade[..., None] + inside[..., None] * lesion
    for _ in range(int(kind.spots * draw.integers(6, 14))):
        spot = centre + draw.normal(0, kind.size[1] * 0.6, 2)
        blob = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 0.0025)[..., None]
        image = image - blob * inside[..., None] * 0.22 * strength
    for _ in range(draw.poisson(1.2)):  # hairs
        slope, offset = draw.normal(), draw.uniform(-1, 1)
        image = image - 0.25 * np.exp(-((y - slope * x - offset) ** 2) / 0.0006)[..., None] * TONES[tone]
    image = image + draw.normal(0, noise, image.shape)
    pixels: NDArray[np.uint8] = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels


def _smooth(value: Floats) -> Floats:
    """The logistic function: [S, S] -> [S, S]."""
    return 1 / (1 + np.exp(-np.clip(value, -30, 30)))
