"""Models: any timm name, with weights from timm, from a local file, or none."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from fairquant.artifact.architecture import architecture_of, create, tag_problem
from fairquant.artifact.finite import finite_problems, listed, value_problem
from fairquant.artifact.metadata import check_options
from fairquant.artifact.own_module import first_logits
from fairquant.data.transforms import Normalization
from fairquant.errors import UserError, suggestion
from fairquant.recipe.schema import Recipe
from fairquant.recipe.sections import ModelSettings
from fairquant.roles import Splits
from fairquant.runs.folder import Run
from fairquant.training.devices import choose_device
from fairquant.training.model import Model

#: Prefixes of the names in a state dict of a model that was wrapped when it was saved.
WRAPPERS = ("module.", "_orig_mod.", "model.")


def build_model(
    settings: ModelSettings, classes: int, channels_last: bool = False
) -> tuple[nn.Module, Normalization, list[str]]:
    """The network with a head of `classes` outputs, its input normalisation, and notes on what was replaced."""
    model = create(settings, classes, pretrained=settings.pretrained and settings.weights is None)
    notes: list[str] = []
    if settings.weights is not None:
        notes = load_weights(model, read_weights(Path(settings.weights)), settings.weights)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    config = getattr(model, "pretrained_cfg", None) or {}
    mean = tuple(config.get("mean", (0.485, 0.456, 0.406)))
    std = tuple(config.get("std", (0.229, 0.224, 0.225)))
    return model, Normalization(mean, std, channels_last), notes


def recipe_model(recipe: Recipe, run: Run, splits: Splits) -> Model:
    """The recipe's timm model bound to the data's groups and classes, its fresh weights drawn from the seed."""
    torch.manual_seed(recipe.seed)
    network, normalization, notes = build_model(recipe.model, len(splits.class_names), recipe.train.channels_last)
    if not recipe.baseline.epochs and (notes or not (recipe.model.weights or recipe.model.pretrained)):
        fresh = "its head is" if recipe.model.weights else "its weights are"
        notes.append(
            f"the full-precision model is not trained (baseline.epochs: 0), and {fresh} random: nothing is measured of it"
        )
    for note in notes:
        run.say(note)
    _check_answers(network, normalization, splits, recipe.model.name)
    device = choose_device(recipe.train.device)
    return Model(
        network=network.to(device), normalization=normalization, device=device, group_names=splits.group_names,
        class_names=splits.class_names, architecture=architecture_of(recipe.model),
    )  # fmt: skip


def _check_answers(network: nn.Module, normalization: Normalization, splits: Splits, name: str) -> None:
    """UserError where the network does not answer the first image of train with one logit for each class, such as an encoder."""
    try:
        outputs = first_logits(network, normalization(splits.train.images[0][None])[0]).shape[1]
    except UserError as error:
        raise UserError(f"model.name: {name!r} cannot be used: {error.problems[0]}") from error
    if outputs != (classes := len(splits.class_names)):
        raise UserError(
            f"model.name: {name!r} gives {outputs} outputs for {classes} classes: choose a network for classification"
        )


def model_problems(settings: ModelSettings) -> list[str]:
    """What is wrong with the network's name and the file of its weights, without making it."""
    from timm import is_model, list_models

    problems = []
    if not is_model(settings.name):
        problems.append(f"model.name: timm has no network {settings.name!r}.{suggestion(settings.name, list_models())}")
    elif problem := tag_problem(settings.name):
        problems.append(f"model.name: {problem}")
    try:
        check_options(settings.options)
    except ValueError as error:
        problems.append(f"model.options: {error}")
    if settings.weights is not None and not Path(settings.weights).is_file():
        problems.append(f"model.weights: no file {settings.weights!r}")
    return problems


def read_weights(file: Path) -> dict[str, Tensor]:
    """A state dict (name -> tensor [...]) from .safetensors, or from .pt / .pth without running any code in it."""
    if not file.is_file():
        raise UserError(f"model.weights: no file {str(file)!r}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return _without_wrapper(load_file(file))
        if file.suffix in (".pt", ".pth"):
            content = _load_tensors(file)
            state = content.get("state_dict", content.get("model", content)) if isinstance(content, dict) else content
            if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
                raise ValueError("it holds no state dict of tensors")
            if odd := [name for name in state if not isinstance(name, str)]:
                raise ValueError(f"the name of a tensor is {odd[0]!r}, not text: it is no state dict of a module")
            return _without_wrapper(state)
    except Exception as error:
        raise UserError(f"model.weights: {str(file)!r} cannot be read: {str(error).splitlines()[0]}") from error
    raise UserError(f"model.weights: {str(file)!r}: expected a .safetensors, .pt or .pth file")


def _load_tensors(file: Path) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            "it holds more than tensors, such as a whole model, and reading that could run any code. Where it was made, save the "
            "tensors alone: torch.save(model.state_dict(), FILE)"
        ) from error


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes that DataParallel, torch.compile and Lightning put before every name."""
    for prefix in WRAPPERS * 2:  # a model may be wrapped twice
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def load_weights(model: nn.Module, state: dict[str, Tensor], source: str) -> list[str]:
    """Load name -> tensor [...] in the model's own precision; a head of another size keeps its fresh weights, with a note."""
    own = model.state_dict()
    head = _head_name(model)
    notes, problems, good = [], [], {}
    for name, value in state.items():
        if kind := _unfit_kind(value, None if name.endswith("num_batches_tracked") else own.get(name)):
            problems.append(f"model.weights: {source!r}: {name!r} is {kind}: save it as a plain tensor of real numbers")
        elif name not in own:
            problems.append(f"model.weights: {source!r} has {name!r}, which the model does not.{suggestion(name, own)}")
        elif own[name].shape != value.shape:
            resized = _for_this_size(model, name, value)
            if resized is not None:
                good[name] = resized.to(own[name].dtype)
                notes.append(f"{name!r}: resampled from {value.shape[1]} to {resized.shape[1]} positions")
            elif head and name.startswith(f"{head}."):
                notes.append(
                    f"head {name!r}: {tuple(value.shape)} in {source} replaced by a fresh one of {tuple(own[name].shape)}"
                )
            else:
                problems.append(
                    f"model.weights: {name!r} is {tuple(value.shape)}, the model's {tuple(own[name].shape)}"
                )
        else:
            good[name] = value.to(own[name].dtype)
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        problems.insert(
            0, f"model.weights: {source!r} lacks {len(missing)} of the model's tensors, first {missing[0]!r}"
        )
    problems += [
        f"model.weights: {source!r}: {name!r} {problem}"
        for name, value in good.items()
        if (problem := value_problem(value, may_be_infinite=True))
    ]
    if problems:
        more = [f"... and {len(problems) - 5} more. Are these weights of this model?"] if len(problems) > 5 else []
        raise UserError([*problems[:5], *more])
    model.load_state_dict(good, strict=False)
    if broken := finite_problems(model):
        raise UserError(f"model.weights: {source!r}: {listed(broken)}")
    return notes


def _unfit_kind(value: Tensor, own: Tensor | None) -> str:
    """What a tensor is that cannot be a weight; "" where it can be this one."""
    if value.is_meta:
        return "without content (device meta)"
    if value.is_nested or value.layout != torch.strided:
        return "sparse" if not value.is_nested else "nested"
    if value.is_quantized:
        return "quantized"
    if value.is_complex():
        return "complex"
    if own is not None and value.is_floating_point() != own.is_floating_point():
        return f"{value.dtype}, the model's {own.dtype}".replace("torch.", "")
    return ""


def _for_this_size(model: nn.Module, name: str, value: Tensor) -> Tensor | None:
    """Position embeddings of another image size, resampled as timm does for its own weights; else None."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    prefix = 0 if getattr(model, "no_embed_class", False) else getattr(model, "num_prefix_tokens", 0)
    own = getattr(model, name, None)
    if name != "pos_embed" or grid is None or value.ndim != 3 or own is None or own.shape[2] != value.shape[2]:
        return None
    from timm.layers import resample_abs_pos_embed

    if math.isqrt(value.shape[1] - prefix) ** 2 != value.shape[1] - prefix:
        return None
    resized: Tensor = resample_abs_pos_embed(value, list(grid), num_prefix_tokens=prefix)
    return resized if resized.shape == own.shape else None


def _head_name(model: nn.Module) -> str | None:
    config = getattr(model, "pretrained_cfg", None) or {}
    name = config.get("classifier")
    return name if isinstance(name, str) else None
