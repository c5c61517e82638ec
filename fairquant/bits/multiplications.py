"""Which parameters an image is multiplied with, and how many multiply-accumulates that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fairquant.bits.layers import CALLED, untouched
from fairquant.roles.importance import Layer

#: Operations whose first argument is added to the product of the others.
_ADDED_FIRST = (torch.ops.aten.addmm, torch.ops.aten.baddbmm)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """counts: parameter -> multiply-accumulates; total: of the whole pass.

    A parameter is recognised by its memory, also in views of it. Where a module computes another weight from its own first
    (weight standardization), the products inside it are its weight's: inside names the weight of the module that runs.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.counts: Counter[str] = Counter()
        self.total = 0
        self.inside: list[str] = []
        self._by_storage: dict[int, list[tuple[int, int, str]]] = {}
        for name, parameter in parameters.items():
            start = parameter.data_ptr()
            entry = (start, start + parameter.numel() * parameter.element_size(), name)
            self._by_storage.setdefault(parameter.untyped_storage().data_ptr(), []).append(entry)

    def __torch_dispatch__(self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """A reason for Any: the arguments of every operation there is."""
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None and func._overloadpacket is not torch.ops.aten.embedding:
            with self:
                decomposed = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if decomposed is NotImplemented else decomposed
        out = func(*args, **kwargs)
        operations = 0 if count is None else count(*args, **kwargs, out_val=out) // 2
        operands = args[1:] if func._overloadpacket in _ADDED_FIRST else args
        used = [name for arg in operands if isinstance(arg, Tensor) for name in self._name(arg)] or self.inside[-1:]
        if used:
            self.counts[used[0]] += operations
        self.total += operations
        return out

    def _name(self, tensor: Tensor) -> list[str]:
        if tensor.ndim < 2:  # a bias is added, though the same operation takes it
            return []
        place = tensor.data_ptr()
        entries = self._by_storage.get(tensor.untyped_storage().data_ptr(), ())
        return [name for start, end, name in entries if start <= place < end][:1]


def count_multiplications(
    network: nn.Module, image: Tensor, layers: Sequence[Layer] = ()
) -> tuple[Mapping[str, int], int]:
    """Parameter -> multiply-accumulates of one image [1, 3, H, W], 0 where it is only looked up; and those of the whole pass.
    Parameters that are only added, or not used, are not in it. layers: see `_Counter.inside`."""
    counter = _Counter(dict(network.named_parameters()))
    called = [
        (module, layer.parameters[0])
        for layer in layers
        for module in layer.modules
        if isinstance(module, CALLED) and layer.own_names[0] == "weight"
    ]
    handles = [
        handle
        for module, path in called
        for handle in (
            module.register_forward_pre_hook(lambda *_, path=path: counter.inside.append(path)),
            module.register_forward_hook(lambda *_: counter.inside.pop() and None),
        )
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation, that cannot be looked into
    try:
        with untouched(network), torch.no_grad(), counter:
            network(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
    return dict(counter.counts), counter.total
