"""A small network for every kind of weight that there is, for images of 16 x 16."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Signal(nn.Module):
    """Conv1d."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv1d(3, 8, 3), nn.Conv1d(8, 8, 3, groups=2), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.two(F.relu(self.one(images.flatten(2))))).mean(2))


class Volume(nn.Module):
    """Conv3d."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Conv3d(3, 8, (1, 3, 3)), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.one(images[:, :, None])).mean((2, 3, 4)))


class Transposed(nn.Module):
    """ConvTranspose2d, with and without a batch norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.ConvTranspose2d(8, 6, 3), nn.BatchNorm2d(6)
        self.wide, self.head = nn.ConvTranspose2d(6, 4, 2, groups=2), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.wide(self.norm(self.up(F.relu(self.down(images)))))).mean((2, 3)))


class Encoder(nn.Module):
    """TransformerEncoderLayer: in_proj of MultiheadAttention, linear layers whose weights torch reads itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 4, 4), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block(self.stem(images).flatten(2).transpose(1, 2)).mean(1))


class Cross(nn.Module):
    """MultiheadAttention whose keys and values have sizes of their own: three projections in place of one."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, kdim=6, vdim=3, batch_first=True), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(1)[:, :240]
        query, key, value = tokens.view(-1, 60, 4), tokens.view(-1, 40, 6), tokens[:, :120].view(-1, 40, 3)
        return self.head(self.attention(query, key, value)[0].mean(1))


class Words(nn.Module):
    """Embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(8, 6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.table((2 * images.flatten(1)).long().clamp(0, 7)).mean(1))


class Recurrent(nn.Module):
    """GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.GRU(3, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.cells(images.flatten(2).transpose(1, 2)[:, :12])[0].mean(1))


class Raw(nn.Module):
    """Parameters of its own: two that multiply, a position that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.position = nn.Parameter(torch.randn(192, 6) / 14), nn.Parameter(torch.randn(2, 6) / 10)
        self.out, self.bias = nn.Parameter(torch.randn(3, 6) / 2), nn.Parameter(torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        small = F.avg_pool2d(images, 2).flatten(1)
        return F.linear(F.relu(small @ self.hidden + self.position.sum(0)), self.out, self.bias)


class Pair(nn.Module):
    """Bilinear."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.pair = nn.Linear(48, 4), nn.Bilinear(4, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.tanh(self.small(F.avg_pool2d(images, 4).flatten(1)))
        return self.pair(seen, seen)


class Alone(nn.Linear):
    """A layer that is the whole network, with a forward of its own."""

    def __init__(self) -> None:
        super().__init__(48, 3)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(images, 4).flatten(1))


class Twice(nn.Module):
    """One module under two names, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(48, 48)
        self.again, self.idle, self.head = self.one, nn.Linear(5, 4), nn.Linear(48, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.again(F.relu(self.one(F.avg_pool2d(images, 4).flatten(1)))))


class Standard(nn.Conv2d):
    """A convolution with a weight of mean 0 and variance 1 in each row, as in NFNet and BiT."""

    def forward(self, images: Tensor) -> Tensor:
        weight = self.weight.flatten(1)
        weight = (weight - weight.mean(1, keepdim=True)) / (weight.std(1, keepdim=True) + 1e-3)
        return F.conv2d(images, weight.view_as(self.weight), self.bias)


class Standardized(nn.Module):
    """A convolution that standardizes its weight first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = Standard(3, 8, 3), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(images)).mean((2, 3)))


class Padded(nn.Module):
    """A maximum over a map that is padded with minus infinity, as networks from TensorFlow have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        padded = F.pad(self.stem(images), (0, 1, 0, 1), value=-float("inf"))
        return self.head(self.conv(F.max_pool2d(padded, 3, 2)).mean((2, 3)))


#: Network -> its layers, in order, and what stays in float32.
KINDS = {
    Signal: (["one", "two", "head"], {}),
    Volume: (["one", "head"], {}),
    Transposed: (["down", "up", "wide", "head"], {}),
    Encoder: (
        [
            "stem",
            "block.self_attn.in_proj_weight",
            "block.self_attn.out_proj",
            "block.linear1",
            "block.linear2",
            "head",
        ],
        {},
    ),
    Cross: (
        [*(f"attention.{one}_proj_weight" for one in "qkv"), "attention.out_proj", "head"],
        {},
    ),
    Words: (["table", "head"], {}),
    Recurrent: (["cells.weight_hh_l0", "cells.weight_ih_l0", "head"], {}),
    Raw: (["hidden", "out"], {"position": 12}),
    Pair: (["small", "pair"], {}),
    Alone: (["weight"], {}),
    Twice: (["one", "idle", "head"], {}),
    Standardized: (["conv", "head"], {}),
    Padded: (["stem", "conv", "head"], {}),
}
