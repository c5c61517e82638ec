"""The timm network that a recipe or an artifact names, built for an image size."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fairquant.errors import UserError, suggestion
from fairquant.recipe.sections import ModelSettings

#: Values in the buffers of a network.
MOST_BUFFERS = 1 << 27


def create(settings: ModelSettings, classes: int, pretrained: bool = False) -> nn.Module:
    """A timm network with `classes` outputs that takes images of `settings.image_size` pixels.

    Raises UserError for a name that timm does not know, options that it refuses, weights that cannot be fetched, and a
    network that cannot be built for that image size.
    """
    import timm

    if not timm.is_model(settings.name):
        known = timm.list_models()
        raise UserError(
            f"model.name: timm has no model {settings.name!r}.{suggestion(settings.name, known)} "
            f"See timm.list_models(): {len(known)} names"
        )
    if problem := tag_problem(settings.name):
        raise UserError(f"model.name: {problem}")
    options = dict(settings.options) | _size_option(settings, classes)
    try:
        model: nn.Module = timm.create_model(settings.name, pretrained=pretrained, num_classes=classes, **options)
        return model
    except Exception as error:
        if pretrained:
            raise UserError(
                f"model.pretrained: the weights of {settings.name!r} cannot be fetched ({type(error).__name__}: "
                f"{(str(error) or 'no message').splitlines()[0]}). Without a network: download them on another "
                "machine, save them as safetensors with timm's parameter names and set model.weights=FILE; or set "
                "model.pretrained=false to train from scratch"
            ) from error
        raise UserError(f"model: timm cannot build {settings.name!r} with {options}: {error}") from error


def tag_problem(name: str) -> str:
    """What is wrong with the name of weights behind a network's name; "" where nothing is."""
    import timm

    network, dot, tag = name.partition(".")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = list(timm.list_pretrained(f"{network}.*"))
        return f"timm has no weights {tag!r} of {network!r}.{suggestion(name, known)} Leave out {dot + tag!r}, or name others"
    return ""


def count_values(settings: ModelSettings, classes: int) -> int | None:
    """Number of parameters and buffer elements, counted without allocating them; None where that is not possible."""
    try:
        with torch.device("meta"):
            model = create(settings, classes)
    except (UserError, NotImplementedError, RuntimeError):
        return None
    buffers = sum(buffer.numel() for buffer in model.buffers())  # also those that no file holds, such as masks
    if buffers > MOST_BUFFERS:
        raise UserError(
            f"model: {settings.name!r} with these options keeps {buffers} values besides its weights, which is refused"
        )
    values: dict[int, int] = {id(value): value.numel() for value in model.state_dict(keep_vars=True).values()}
    return sum(values.values())


def _size_option(settings: ModelSettings, classes: int) -> dict[str, int]:
    """The keyword that makes timm build the network for the image size: `img_size`, or none where none is needed.

    timm says of each network whether its input size is fixed at construction (`pretrained_cfg.fixed_input_size`, such as
    position embeddings). Where the size asked for is not the network's own, both forms are tried on the meta device,
    which costs no memory, and the first one that accepts such an image is taken.
    """
    import timm

    config, size = timm.get_pretrained_cfg(settings.name), settings.image_size
    if "img_size" in settings.options or (config is not None and config.input_size[-1] == size):
        return {}
    attempts: tuple[dict[str, int], ...] = ({}, {"img_size": size})
    if config is None or config.fixed_input_size:
        attempts = attempts[::-1]
    refusal = ""
    for attempt in attempts:
        refusal = _refusal(settings, classes, attempt, size)
        if not refusal:
            return attempt
    own = size if config is None else config.input_size[-1]
    if settings.options and (problem := _refusal(settings, classes, {}, own)):
        raise UserError(f"model.options: timm cannot build {settings.name!r} with {dict(settings.options)}: {problem}")
    if config is None:
        raise UserError(f"model.image_size: timm cannot build {settings.name!r} for images of {size} pixels: {refusal}")
    raise UserError(
        f"model.image_size: timm cannot build {settings.name!r} for images of {size} pixels; "
        f"it is made for {own}. Set model.image_size={own}, or choose another model"
    )


def _refusal(settings: ModelSettings, classes: int, attempt: dict[str, Any], size: int) -> str:
    """Why the network cannot be built so, or takes no image of the size; "" where it does. An operation that the meta device lacks
    counts as accepted: the real network decides."""
    import timm

    try:
        with torch.device("meta"), torch.no_grad():
            model = timm.create_model(settings.name, num_classes=classes, **settings.options, **attempt).eval()
            model(torch.zeros(1, 3, size, size))
    except NotImplementedError:
        return ""
    except Exception as error:
        return (str(error) or type(error).__name__).splitlines()[0][:300]
    return ""


def architecture_of(settings: ModelSettings) -> dict[str, object]:
    """What an artifact stores of the network, enough for `create` to build it again."""
    return {
        "source": "timm", "name": settings.name, "image_size": settings.image_size, "options": dict(settings.options),
    }  # fmt: skip
