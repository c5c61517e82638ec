"""The layers that are rounded already, for a run that is stopped in between."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from fairquant.data.ranks import barrier, is_leader
from fairquant.roles import QuantizedWeight, Rounded
from fairquant.training.checkpoints import load_checkpoint, put_aside, save_checkpoint

#: Seconds between two checkpoints.
OFTEN = 20.0


@dataclass(kw_only=True)
class RoundingCheckpoint:
    """file: in the run's folder; made_for: a digest of all that the rounding depends on; blocks: those that were rounded as a whole;
    None, or the reason why one stays as its layers were rounded."""

    file: Path
    made_for: str
    blocks: dict[str, str | None] = field(default_factory=dict)
    _layers: dict[str, Rounded] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    def load(self) -> dict[str, Rounded]:
        """The layers that were rounded; none where there is no usable file."""
        content = load_checkpoint(self.file, torch.device("cpu"), self.made_for) if self.file.is_file() else None
        content = content or {"layers": {}, "blocks": {}}
        try:
            found = {name: _rounded(stored) for name, stored in content["layers"].items()}
            self.blocks = dict(content["blocks"])
        except (LookupError, TypeError, AttributeError):  # another version's
            put_aside(self.file)
            found = {}
        barrier()  # the leader writes from now on
        return found

    def add(self, name: str, rounded: Rounded) -> None:
        """Remember a layer; written every now and then."""
        self._layers[name] = rounded
        if time.monotonic() - self._saved > OFTEN:
            self.save()

    def save(self) -> None:
        self._saved = time.monotonic()
        if is_leader():
            layers = {name: _stored(each) for name, each in self._layers.items()}
            save_checkpoint(self.file, {"layers": layers, "blocks": self.blocks}, self.made_for)


def _stored(rounded: Rounded) -> dict[str, object]:
    weight = {each.name: getattr(rounded.weight, each.name) for each in fields(rounded.weight)}
    return {
        "weight": weight | {"shape": list(rounded.weight.shape)},
        "bias": rounded.bias,
        "compensated": rounded.compensated,
    }


def _rounded(stored: dict[str, dict[str, object]]) -> Rounded:
    weight = dict(stored["weight"])
    shape = weight.pop("shape")
    assert isinstance(shape, list)
    bias, compensated = stored["bias"], bool(stored["compensated"])
    assert bias is None or isinstance(bias, torch.Tensor)
    return Rounded(weight=QuantizedWeight(**weight, shape=tuple(shape)), bias=bias, compensated=compensated)
