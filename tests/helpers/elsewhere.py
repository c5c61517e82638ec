"""An accelerator for machines without one: tensors that say they are on it, and are computed on the CPU.

Code that mixes tensors of the two places, or reads one as a NumPy array, fails with these as it does on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

#: No tensor without values is ever made: what torch calls meta stands for the accelerator, since it needs no driver.
ELSEWHERE = torch.device("meta")
#: Operations that take tensors of several places.
COPIES = ("aten::copy_", "aten::_to_copy")
INDEXED = ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_")


class Elsewhere(Tensor):
    """inner: the tensor on the CPU that it is computed with."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=ELSEWHERE,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, **options) -> str:
        return f"Elsewhere({self.inner!r})"

    def tolist(self):
        return self.inner.tolist()

    def numpy(self, *, force: bool = False):
        if not force:
            raise TypeError("a tensor on an accelerator is no NumPy array")
        return self.inner.numpy(force=True)

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return _compute(operation, arguments, options or {})


class _Operations(TorchDispatchMode):
    """Operations that make tensors there of none, or of the CPU's."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        return _compute(operation, arguments, options or {})


class _Numbers(TorchFunctionMode):
    """Tensors of Python's numbers, which are made without any operation; and what torch cannot do with tensors that wrap others."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        of_tensor = function is Tensor.new_tensor and isinstance(arguments[0], Elsewhere)
        if of_tensor or (function is torch.tensor and torch.device(options.get("device") or "cpu") == ELSEWHERE):
            numbers = torch.tensor(arguments[-1], **{**options, "device": None})
            return Elsewhere(numbers.to(arguments[0].dtype) if of_tensor and "dtype" not in options else numbers)
        if function is Tensor.detach and torch.is_inference_mode_enabled():
            return arguments[0]
        return function(*arguments, **options)


@contextmanager
def accelerator() -> Iterator[None]:
    """In this context tensors are also made, and moved, there."""
    with _Numbers(), _Operations():
        yield


def moved(value):
    """A network (in place), or the tensors of a dataclass, there."""
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, parameter in module._parameters.items():
                module._parameters[name] = None if parameter is None else nn.Parameter(Elsewhere(parameter.detach()))
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else Elsewhere(buffer)
        return value
    assert is_dataclass(value)
    tensors = {field.name: getattr(value, field.name) for field in fields(value)}
    return replace(value, **{name: Elsewhere(each) for name, each in tensors.items() if isinstance(each, Tensor)})


def back(value: Tensor) -> Tensor:
    """The tensor on the CPU."""
    return value.inner if isinstance(value, Elsewhere) else value


def _compute(operation, arguments, options):
    tensors = [each for each in tree_leaves((arguments, options)) if isinstance(each, Tensor)]
    there = any(isinstance(each, Elsewhere) for each in tensors)
    _refuse_mixed(operation, arguments, tensors)
    inner, inner_options = tree_map(lambda each: back(each) if isinstance(each, Tensor) else each, (arguments, options))
    if inner_options.get("device") is not None:
        there = torch.device(inner_options["device"]) == ELSEWHERE
        inner_options = inner_options | {"device": torch.device("cpu")}
    result = operation(*inner, **inner_options)
    if operation._schema.is_mutable and isinstance(result, Tensor) and result is inner[0]:
        first = arguments[0]
        if isinstance(first, Elsewhere) and first.shape != result.shape:  # such as squeeze_
            first.data, first.inner = Elsewhere(result), result
        return first
    return tree_map(lambda each: Elsewhere(each) if there and isinstance(each, Tensor) else each, result)


def _refuse_mixed(operation, arguments, tensors) -> None:
    """RuntimeError for tensors of both places; a single number may come from the CPU, and so may indices."""
    name = operation._schema.name
    there = [each for each in tensors if isinstance(each, Elsewhere)]
    here = [each for each in tensors if not isinstance(each, Elsewhere) and each.dim() > 0]
    if name in INDEXED:
        mixed = bool(there) and not isinstance(arguments[0], Elsewhere)
    else:
        mixed = bool(there) and bool(here) and name not in COPIES
    if mixed:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
