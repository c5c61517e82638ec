"""Few bits for activations, too: the inputs of quantized layers on a grid whose step is learned.

Learned step size (LSQ, arXiv 1902.08153; PACT's learned clipping, arXiv 1805.06085, with a floor below zero where the
input has one). The step starts at the least squared error on calibration images. What is trained is what ships: the
steps are in the artifact, `fairquant.load` restores them, and the exported file takes its ranges from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fairquant.bits.layers import CALLED, untouched
from fairquant.errors import UserError
from fairquant.roles.importance import Batch, Layer

NAME = "input_quantizer"
#: Values sampled of each batch, and the candidate steps, as fractions of the step that clips nothing.
SAMPLES_PER_BATCH, CANDIDATE_STEPS = 1 << 14, 48


class InputQuantizer(nn.Module):
    """Rounds a layer's input to 2^bits levels, step apart; signed where the input has negative values."""

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__()
        self.bits, self.signed = bits, signed
        # its logarithm: a step of the optimizer then changes it in proportion, whatever its size
        self.log_step = nn.Parameter(torch.tensor(0.0))

    @property
    def step(self) -> Tensor:
        """Distance between levels, a scalar []."""
        return self.log_step.exp()

    @property
    def levels(self) -> tuple[int, int]:
        return (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if self.signed else (0, 2**self.bits - 1)

    @property
    def bounds(self) -> tuple[float, float]:
        """The range that is not clipped: (low, high)."""
        low, high = self.levels
        return low * float(self.step.detach()), high * float(self.step.detach())

    def forward(self, values: Tensor) -> Tensor:
        """values [B, ...] -> the same shape, rounded to the levels; differentiable in values and step (LSQ)."""
        low, high = self.levels
        step = self.step
        if self.training and torch.is_grad_enabled():
            slow = (values[0].numel() * high) ** -0.5  # LSQ's scale of the step's gradient
            step = step * slow + (step - step * slow).detach()
        placed = (values.float() / step).clamp(low, high)
        return ((placed + (placed.round() - placed).detach()) * step).to(values.dtype)


def _quantize_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (module.get_submodule(NAME)(inputs[0]), *inputs[1:])


def attach_input_quantizers(network: nn.Module, described: object, source: str = "activations") -> None:
    """described: module name -> [bits, signed], as `describe_inputs` gives it. UserError where it is anything else, or does not
    fit."""
    if not isinstance(described, Mapping):
        raise UserError(f"{source}: its activations are {str(described)[:100]!r}: damaged or refused")
    modules = dict(network.named_modules())
    for name, what in described.items():
        fits = isinstance(what, list | tuple) and len(what) == 2 and what[0] in range(2, 9)
        if not fits or not isinstance(modules.get(name), CALLED):
            raise UserError(f"{source}: its activations {name!r}: {what!r} do not fit the model")
        assert isinstance(what, list | tuple)
        modules[name].add_module(NAME, InputQuantizer(int(what[0]), bool(what[1])))
        modules[name].register_forward_pre_hook(_quantize_input)


def describe_inputs(network: nn.Module) -> dict[str, list[int | bool]]:
    """Module name -> [bits, signed] of every layer whose input is quantized."""
    return {
        name.removesuffix(f".{NAME}"): [module.bits, module.signed]
        for name, module in network.named_modules()
        if isinstance(module, InputQuantizer)
    }


def remove_input_quantizers(network: nn.Module) -> dict[str, tuple[float, float]]:
    """Remove the quantizers; module name -> (low, high), the range that each kept."""
    ranges = {}
    for name in describe_inputs(network):
        module = network.get_submodule(name)
        ranges[name] = _quantizer_of(module).bounds
        delattr(module, NAME)
        for key, hook in list(module._forward_pre_hooks.items()):
            if hook is _quantize_input:
                del module._forward_pre_hooks[key]
    return ranges


@torch.no_grad()
def quantize_inputs(
    network: nn.Module, layers: tuple[Layer, ...], stream: Iterable[Batch], bits: int, first: int
) -> dict[str, int]:
    """Attach quantizers to the inputs of the layers, their steps started on the stream's images; layer name -> bits.

    Only of linear layers and convolutions whose modules are called: where a module's forward reads the weight of another, or a
    layer is not used, nothing is attached. first: bits of the first layer's input, the image itself."""
    called = [layer for layer in layers if all(isinstance(m, CALLED) for m in layer.modules) and not layer.paths]
    seen = _sample_inputs(network, tuple(called), stream)
    layers = tuple(layer for layer in called if all(seen[name] for name in layer.names))
    widths = {layer.name: first if number == 0 else bits for number, layer in enumerate(layers)}
    for layer in layers:
        for name, module in zip(layer.names, layer.modules, strict=True):
            values = torch.cat(seen[name]).float()
            attach_input_quantizers(network, {name: [widths[layer.name], bool((values < 0).any())]})
            quantizer = _quantizer_of(module)
            quantizer.to(layer.weight.device)
            quantizer.log_step.fill_(math.log(best_step(values, quantizer.levels)))
    return widths


def float_inputs_note(layers: Sequence[Layer], widths: Mapping[str, int]) -> str:
    """Which layers' inputs are not quantized, in words; "" where all are."""
    left = [layer.name for layer in layers if layer.name not in widths]
    shown = ", ".join(left[:4]) + (", ..." if len(left) > 4 else "")
    return (
        f"the inputs of {len(left)} of {len(layers)} layers stay in float32, because their modules are not called with them: "
        f"{shown}"
        if left
        else ""
    )


def _sample_inputs(network: nn.Module, layers: tuple[Layer, ...], stream: Iterable[Batch]) -> dict[str, list[Tensor]]:
    """Module name -> some of its input values, one tensor [n] a batch."""
    seen: dict[str, list[Tensor]] = {name: [] for layer in layers for name in layer.names}
    handles = [
        module.register_forward_pre_hook(_sampler(seen[name]))
        for layer in layers
        for name, module in zip(layer.names, layer.modules, strict=True)
    ]
    try:
        with untouched(network):
            for batch in stream:
                network(batch.images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _sampler(seen: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        flat = inputs[0].detach().flatten()
        seen.append(flat[:: max(1, len(flat) // SAMPLES_PER_BATCH)].clone())

    return look


def _quantizer_of(module: nn.Module) -> InputQuantizer:
    quantizer = module.get_submodule(NAME)
    assert isinstance(quantizer, InputQuantizer)
    return quantizer


def best_step(values: Tensor, levels: tuple[int, int]) -> float:
    """The step with the least squared error on values [n], of CANDIDATE_STEPS between a small one and the one that clips
    nothing."""
    low, high = levels
    widest = max(float(values.max()) / max(high, 1), float(values.min()) / low if low else 0.0, 1e-8)
    steps = [widest * (number + 1) / CANDIDATE_STEPS for number in range(CANDIDATE_STEPS)]
    errors = [float(((values / s).clamp(low, high).round() * s - values).square().mean()) for s in steps]
    return steps[min(range(CANDIDATE_STEPS), key=errors.__getitem__)]
