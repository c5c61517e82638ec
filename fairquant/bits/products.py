"""Every product of a layer's weight with its inputs, in whatever module it is computed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fairquant.roles import Layer

_SPATIAL = {F.conv1d: 1, F.conv2d: 2}


@dataclass(frozen=True, eq=False)
class Product:
    """One use of a layer. inputs: as the operation has them; arguments: stride, padding, dilation, groups of a convolution;
    sequence_first: whether the inputs of a matrix product are [tokens, images, n]; None where that is told by their shape, which
    cannot be where a batch has as many images as a window has tokens."""

    number: int
    inputs: Tensor
    weight: Tensor
    spatial: int = 0
    arguments: Mapping[str, Any] | None = None  # a stride may be a number, a tuple or a text
    sequence_first: bool | None = None

    @property
    def slices(self) -> int:
        """Of rows that see inputs of their own: the groups of a convolution."""
        return int((self.arguments or {}).get("groups", 1))

    def sizes(self, key: str) -> tuple[int, ...]:
        """The stride or dilation of a convolution along each axis."""
        return _tuple((self.arguments or {}).get(key, 1), self.spatial)

    def places(self, images: int) -> int | None:
        """Of one image: pixels of the output, tokens. None where the inputs cannot be separated by image."""
        if self.spatial:
            separable = self.inputs.dim() == 2 + self.spatial and len(self.inputs) == images
            return prod(self._every_window().shape[2 : 2 + self.spatial]) if separable else None
        first = self._image_first(images)
        return None if len(first) % images else first[..., 0].numel() // images

    def columns(self, images: int, chosen: Tensor | None = None) -> Tensor | None:
        """The inputs that the rows are multiplied with, image by image: [images, P, S, n], P places, S slices of rows; of the chosen
        places [P] only, where given. None where they cannot be separated by image."""
        if self.places(images) is None:
            return None
        if self.spatial:
            return self._patches() if chosen is None else self._windows(chosen)
        first = self._image_first(images)
        found = first.reshape(images, -1, 1, first.shape[-1])  # windows batched as images are put side by side again
        return found if chosen is None else found[:, chosen]

    def _image_first(self, images: int) -> Tensor:
        """The inputs of a matrix product, a sequence axis that comes first put behind."""
        inputs, told = self.inputs, self.sequence_first
        possible = inputs.dim() > 2 and inputs.shape[1] == images
        return inputs.transpose(0, 1) if possible and (len(inputs) != images if told is None else told) else inputs

    def padded(self) -> Tensor:
        """The inputs of a convolution with the zeros around them."""
        padding = (self.arguments or {}).get("padding", 0)
        if isinstance(padding, str):
            size = zip(self.sizes("dilation"), self.weight.shape[2:], strict=True)
            totals = [d * (k - 1) if padding == "same" else 0 for d, k in size]
        else:
            totals = [2 * each for each in _tuple(padding, self.spatial)]
        sides = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
        return F.pad(self.inputs, sides) if any(sides) else self.inputs

    def _patches(self) -> Tensor:
        """[B, L, S, n] of a convolution."""
        images, size = self.padded(), tuple(self.weight.shape[2:])
        stride, dilation = self.sizes("stride"), self.sizes("dilation")
        if self.spatial == 1:
            images, size, stride, dilation = images[:, :, None], (1, *size), (1, *stride), (1, *dilation)
        columns = F.unfold(images, size, dilation, 0, stride)
        batch, _, places = columns.shape
        return columns.view(batch, self.slices, -1, places).permute(0, 3, 1, 2)

    def _windows(self, chosen: Tensor) -> Tensor:
        """[B, P, S, n] of the chosen places, without the others."""
        windows = self._every_window()
        places: tuple[Tensor, ...] = torch.unravel_index(chosen, windows.shape[2 : 2 + self.spatial])
        axes = range(self.spatial)
        found = windows.movedim([2 + axis for axis in axes], [*axes])[places]  # [P, B, C, *size]
        return found.transpose(0, 1).reshape(len(windows), len(chosen), self.slices, -1)

    def _every_window(self) -> Tensor:
        """A view [B, C, *places, *size] of a convolution's padded inputs."""
        images = self.padded()
        sizes = zip(self.weight.shape[2:], self.sizes("stride"), self.sizes("dilation"), strict=True)
        for axis, (size, stride, dilation) in enumerate(sizes):
            images = images.unfold(2 + axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        return images


def _tuple(value: Any, count: int) -> tuple[int, ...]:
    """A number or a tuple, for each of `count` axes."""
    return (int(value),) * count if isinstance(value, int) else tuple(int(each) for each in value)


#: Called before a product is computed.
OnProduct = Callable[[Product], None]
#: Called with its output, for those that are computed by a call of their own; gives the output that the network goes on with.
OnOutput = Callable[[Product, Tensor], Tensor]


class Products(TorchFunctionMode):
    """Watches the products with the layers' weights in this thread; other calls pass. Functions that are themselves made of
    products, as torch's attention is, are looked into."""

    def __init__(
        self, layers: Sequence[Layer], on_product: OnProduct | None = None, on_output: OnOutput | None = None,
        sequence_first: Collection[int] | None = None,
    ) -> None:  # fmt: skip
        """sequence_first: numbers of the layers whose inputs are [tokens, images, n], see `find_sequence_first`."""
        super().__init__()
        self.sequence_first = sequence_first
        self.numbers = {id(layer.weight): number for number, layer in enumerate(layers)}
        self.on_product, self.on_output = on_product, on_output

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """A reason for Any: the arguments of every function there is."""
        given = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._attention(inspect.signature(func).bind(*args, **given).arguments)
        product = self._product(func, args, given) if func is F.linear or func in _SPATIAL else None
        if product is None:
            return func(*args, **given)
        if self.on_product is not None:
            self.on_product(product)
        output = func(*args, **given)
        return output if self.on_output is None else self.on_output(product, output)

    def _product(self, func: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Product | None:
        """What is computed with a layer's weight; None for other weights."""
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        named = {**dict(zip(names, args, strict=False)), **given}
        number = self.numbers.get(id(named["weight"]))
        if number is None:
            return None
        plain = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        options = {key: named.get(key, default) for key, default in plain.items()}
        spatial = _SPATIAL.get(func, 0)
        tokens = None if self.sequence_first is None else number in self.sequence_first
        arguments = options if spatial else None
        return Product(number, named["input"].detach(), named["weight"].detach(), spatial, arguments, tokens)

    def _attention(self, named: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """torch's attention, [tokens, images, width], whose projections are products as well: the outer one is taken out of it, so
        that its inputs are seen. named: the arguments."""
        function = F.multi_head_attention_forward
        together = not named.get("use_separate_proj_weight", False)
        if together and named["query"] is named["key"] is named["value"]:
            self._report(named["in_proj_weight"], named["query"])
        for part in () if together else ("query", "key", "value"):
            self._report(named[f"{part[0]}_proj_weight"], named[part])
        weight, bias = named["out_proj_weight"], named["out_proj_bias"]
        if id(weight) not in self.numbers:
            return function(**named)
        identity = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
        attended, shares = function(**{**named, "out_proj_weight": identity, "out_proj_bias": None})
        self._report(weight, attended)
        inputs = _images_first(attended)
        output = F.linear(inputs, weight, bias)
        if self.on_output is not None:
            output = self.on_output(Product(self.numbers[id(weight)], inputs.detach(), weight.detach()), output)
        return output.transpose(0, 1) if attended.dim() == 3 else output[0], shares

    def _report(self, weight: Tensor | None, inputs: Tensor) -> None:
        """inputs [tokens, images, width], or [tokens, width] of one image."""
        number = self.numbers.get(id(weight))
        if number is not None and weight is not None and self.on_product is not None:
            self.on_product(Product(number, _images_first(inputs.detach()), weight.detach()))


def find_sequence_first(network: nn.Module, images: Tensor, layers: Sequence[Layer]) -> frozenset[int] | None:
    """Numbers of the layers whose inputs are [tokens, images, n], as one image [1, 3, H, W] of `images` shows it; None where the
    network does not take one image."""
    found: set[int] = set()

    def look(product: Product) -> None:
        inputs = product.inputs
        if not product.spatial and inputs.dim() > 2 and len(inputs) > 1 and inputs.shape[1] == 1:
            found.add(product.number)

    try:
        with Products(layers, look), torch.no_grad():
            network(images[:1])
    except Exception:  # it is told by the shapes of whole batches then
        return None
    return frozenset(found)


def _images_first(tokens: Tensor) -> Tensor:
    """[tokens, images, width], or [tokens, width] of one image -> [images, tokens, width]."""
    return tokens.transpose(0, 1) if tokens.dim() == 3 else tokens[None]
