"""A network bound to what it is used with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from fairquant.data.transforms import Normalization


@dataclass(frozen=True, kw_only=True)
class Model:
    """network: on `device`, its outputs in the order of class_names; normalization: of its inputs; group_names: of the data
    that it is trained and audited on.

    architecture: how `fairquant.load` builds the network again. trained: the caller's own trained network, which is its
    own full-precision baseline.
    """

    network: nn.Module
    normalization: Normalization
    device: torch.device
    group_names: tuple[str, ...]
    class_names: tuple[str, ...]
    architecture: Mapping[str, object] = field(default_factory=dict)
    trained: bool = False

    def copy(self) -> Model:
        """The same model with a network of its own."""
        return replace(self, network=copy.deepcopy(self.network))
