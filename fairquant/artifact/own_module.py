"""A user's own nn.Module as the engine needs it: plain weights, one tensor of logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from fairquant.artifact.finite import finite_problems, listed
from fairquant.errors import UserError

WANTED = "a tensor [images, classes], an object or mapping with `logits`, or a tuple that begins with such a tensor"


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of modules whose weight is computed from others (weight_norm, spectral_norm of torch.nn.utils)."""
    known: dict[int, object] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                known[id(value)] = value.detach().clone()
    return copy.deepcopy(model, known)


def fold(model: nn.Module) -> list[str]:
    """Replace weights that are computed from others (weight_norm, spectral_norm, orthogonal and other parametrizations) by their
    values, in place. Returns the names of these layers."""
    folded = []
    was_training = model.training
    model.eval()  # spectral_norm then takes its stored estimate
    for name, module in model.named_modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm | SpectralNorm):
                (remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm)(module, hook.name)
                folded.append(f"{name}.{hook.name}" if name else hook.name)
        if parametrize.is_parametrized(module):
            folded += [f"{name}.{own}" if name else own for own in _plain(module)]
    model.train(was_training)
    return folded


def _plain(module: nn.Module) -> list[str]:
    """Parametrized tensors as parameters; their names. (torch's own removal deletes the property from the module's class, which
    a copy shares with its original.)"""
    parametrized = module.parametrizations
    assert isinstance(parametrized, nn.ModuleDict)
    names = list(parametrized)
    values = {own: getattr(module, own).detach().clone() for own in names}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for own, value in values.items():
        module.register_parameter(own, nn.Parameter(value))
    return names


def answer_with_logits(model: nn.Module) -> None:
    """From now on the model returns its logits alone; see WANTED for what it may return itself."""
    model.register_forward_hook(lambda module, given, output: logits_of(output))


def logits_of(output: object) -> Tensor:
    """The logits in what a model returns. Raises UserError for anything but WANTED."""
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif not isinstance(output, Tensor):
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, tuple | list) and output:
            found = output[0]
    if not isinstance(found, Tensor):
        raise UserError(f"the model returns {type(output).__name__}; wanted is {WANTED}")
    return found


def check_storable(model: nn.Module) -> None:
    """UserError for state that no file of tensors can hold."""
    if compiled := [name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]:
        what = f"{compiled[0]!r} is" if compiled[0] else "the model is"
        raise UserError(f"{what} compiled by torch.jit: give the nn.Module that it was made from")
    if renormalized := [
        n for n, m in model.named_modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) and m.max_norm
    ]:
        raise UserError(
            f"{renormalized[0]!r} has max_norm, which changes its weight whenever it is used. Set max_norm = None: the weights that "
            "training left are within it"
        )
    odd = [name for name, value in model.state_dict().items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(
            f"the model keeps state that is no tensor ({', '.join(odd[:3])}, by get_extra_state), which a file without pickle cannot "
            "hold. Store it yourself and remove get_extra_state"
        )
    if broken := finite_problems(model):
        raise UserError(f"the model cannot be quantized: {listed(broken)}")


@torch.no_grad()
def answer_of(model: nn.Module, image: Tensor) -> int:
    """The class that a model gives to one image [3, H, W]. UserError where it cannot, see `first_logits`."""
    training, device = model.training, next((p.device for p in model.parameters()), torch.device("cpu"))
    model.eval()
    try:
        return int(logits_of(model(image[None].to(device)))[0].argmax())
    except Exception:
        return int(first_logits(model, image)[0].argmax())  # says what is wrong with it
    finally:
        model.train(training)


@torch.no_grad()
def first_logits(model: nn.Module, image: Tensor) -> Tensor:
    """What the model answers to one image [3, H, W] of the data, prepared as the model takes it, given twice: [2, classes]. Raises
    UserError where it does not take the image, or does not answer with a row of logits."""
    training, device = model.training, next((p.device for p in model.parameters()), torch.device("cpu"))
    model.eval()
    try:
        logits = logits_of(model(torch.stack([image, image]).to(device)))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the model does not take images {tuple(image.shape)} like those given: {type(error).__name__}: "
            f"{next(iter(str(error).splitlines()), '')}"
        ) from error
    finally:
        model.train(training)
    if logits.ndim != 2 or len(logits) != 2:
        raise UserError(
            f"of 2 images the model returns {tuple(logits.shape)}; wanted are two rows of logits [2, classes]"
        )
    if not bool(torch.isfinite(logits).all()):
        raise UserError("the model's outputs for the first image are NaN or infinite")
    if logits.shape[1] == 1:
        raise UserError("the model returns one logit; give it one output for each class: two for a yes or no")
    return logits


def are_probabilities(logits: Tensor) -> bool:
    """Whether outputs [N, classes] are probabilities, as after a softmax."""
    ones = torch.ones(len(logits), device=logits.device)
    return bool((logits >= 0).all()) and torch.allclose(logits.float().sum(1), ones, atol=1e-4)
