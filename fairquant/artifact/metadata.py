"""What an artifact and its ONNX say about themselves: one schema, of known types and bounded sizes, for both formats.

Whoever makes a file can seal it, so nothing in it is trusted: text is bounded, numbers are finite and within what a classifier of
images can have, and options must not lead to other files or networks, or to networks that take long to build.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from fairquant.errors import UserError

#: Keywords of timm.create_model that fetch or read something else than this file.
FOREIGN = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
#: A number among a network's options, the sum of a list of them (blocks by stage), and how deep options are nested.
MOST_NUMBER, MOST_SUM, MOST_NESTED = 8192, 4096, 4
#: Options that count blocks, layers or images' pixels, by a part of their name, and the largest of each.
COUNTS = {"depth": 256, "layer": 256, "block": 256, "num_": 8192, "size": 4096}

Name = Annotated[str, Field(min_length=1, max_length=1000)]
Names = Annotated[list[Name], Field(min_length=1, max_length=100_000)]
Side = Annotated[int, Field(ge=1, le=4096)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Three = Annotated[list[Number], Field(min_length=3, max_length=3)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Architecture(_Strict):
    """source: timm, or module for an nn.Module that the file does not hold."""

    source: Literal["timm", "module"]
    name: Name | None = None
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    image_shape: Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None
    options: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Architecture:
        if self.source == "timm" and (self.name is None or self.image_size is None or self.options is None):
            raise ValueError("a network of timm needs name, image_size and options")
        check_options(self.options or {})
        return self


def check_options(options: Mapping[str, JsonValue]) -> None:
    """ValueError for a network's options that no artifact may hold: they read other files, or no classifier of images has them."""
    for key, value in options.items():
        if key in FOREIGN:
            raise ValueError(
                f"the option {key!r} is refused: it reads something else. Weights are named by model.weights"
            )
        _check_option(key, value, 0)


def _check_option(key: str, value: JsonValue, nested: int) -> None:
    """ValueError for an option that no classifier of images has."""
    most = min((limit for part, limit in COUNTS.items() if part in key), default=MOST_NUMBER)
    if nested > MOST_NESTED:
        raise ValueError(f"the option {key!r} is nested too deep")
    if isinstance(value, str) and len(value) > 1000:
        raise ValueError(f"the option {key!r} is too long")
    if isinstance(value, int | float) and not -most <= value <= most:  # NaN is in no range
        raise ValueError(f"the option {key!r} is {value}, which is refused")
    if isinstance(value, list):
        numbers = [each for each in value if isinstance(each, int | float)]
        if len(value) > 256 or sum(map(abs, numbers)) > MOST_SUM * (1 if most == 256 else 64):
            raise ValueError(f"the option {key!r} is larger than a network's can be")
    for name, each in (
        value.items() if isinstance(value, dict) else ((key, e) for e in value) if isinstance(value, list) else ()
    ):
        _check_option(str(name), each, nested + 1)


class _Preprocessing(_Strict):
    image_size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
    mean: Three
    std: Three
    channels_last: bool = False
    intensity: Literal["full", "percentile"] | Annotated[list[Number], Field(min_length=2, max_length=2)] = "full"
    prepared_by_caller: bool = False

    @field_validator("std")
    @classmethod
    def _positive(cls, value: list[float]) -> list[float]:
        if min(value) <= 0:
            raise ValueError("must be above 0")
        return value

    @field_validator("intensity")
    @classmethod
    def _ascending(cls, value: str | list[float]) -> str | list[float]:
        if isinstance(value, list) and not value[0] < value[1]:
            raise ValueError("low must be below high")
        return value


class _OperatingPoint(_Strict):
    classes: Names
    threshold: Number


class _Metadata(_Strict):
    classes: Names
    groups: Annotated[list[Name], Field(max_length=100_000)] = []
    preprocessing: _Preprocessing
    architecture: _Architecture | None = None
    plan: dict[str, JsonValue] = {}
    recipe: dict[str, JsonValue] = {}
    recipe_digest: Annotated[str, Field(max_length=64)] = ""
    audit: dict[str, list[float]] = {}
    activations: dict[str, tuple[Annotated[int, Field(ge=2, le=8)], bool] | list[JsonValue]] | str = {}
    operating_point: _OperatingPoint | None = None

    @model_validator(mode="after")
    def _consistent(self) -> _Metadata:
        for what, names in (("classes", self.classes), ("groups", self.groups)):
            if len(set(names)) < len(names):
                raise ValueError(f"two of its {what} have one name")
            if not all(name.isprintable() for name in names):
                raise ValueError(f"a name of its {what} has characters that control a terminal")
        if self.operating_point is not None and set(self.operating_point.classes) - set(self.classes):
            raise ValueError("its operating point is of classes that it does not have")
        return self


_SCHEMA = TypeAdapter(_Metadata)


def check_metadata(metadata: Mapping[str, Any], path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    """The metadata as it was given, once it is known to be of the right types and sizes. UserError with everything that is wrong in
    it. needed: keys that must be there."""
    if missing := [f"it has no {key}" for key in needed if key not in metadata]:
        raise UserError(missing, str(path))
    try:
        _SCHEMA.validate_python(dict(metadata))
    except ValidationError as error:
        raise UserError([_said(each) for each in error.errors()[:5]], str(path)) from None
    return dict(metadata)


def _said(error: Any) -> str:
    place = ".".join(str(step) for step in error["loc"] if not isinstance(step, int))
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"damaged or refused: its {place or 'metadata'}: {message}"
