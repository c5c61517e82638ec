"""What training techniques do around the steps: one small module each, whose state is kept in checkpoints."""

from __future__ import annotations

from torch import nn


class Callback(nn.Module):
    """Called by the loop; its buffers are saved and restored with the model, so that a resumed training is the same.

    changes_widths(epoch): whether the bits of this epoch are not yet those that ship, so that it cannot be the epoch that is kept.
    """

    def begin_epoch(self, epoch: int, step: int) -> bool:
        """Before the steps of an epoch (from 0); step > 0: within the epoch, after a checkpoint was loaded. Returns whether the bits
        of any unit have changed."""
        return False

    def after_step(self) -> None:
        """The optimizer has just moved the weights."""

    def restart(self) -> None:
        """The bits of some units have changed: what was observed of their weights says nothing any more."""

    def changes_widths(self, epoch: int) -> bool:
        return False
