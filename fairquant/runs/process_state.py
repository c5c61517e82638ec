"""Settings of torch that hold for the whole process, which a listener may not change."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch


@dataclass(frozen=True)
class TorchState:
    """Settings of torch that hold for the whole process, as they are now."""

    gradients: bool = field(default_factory=torch.is_grad_enabled)
    threads: int = field(default_factory=torch.get_num_threads)
    deterministic: bool = field(default_factory=torch.are_deterministic_algorithms_enabled)
    dtype: torch.dtype = field(default_factory=torch.get_default_dtype)

    def undo(self) -> str:
        """Set them again; what was other, in words."""
        now = TorchState()
        changed = [each.name for each in fields(self) if getattr(self, each.name) != getattr(now, each.name)]
        if changed:
            torch.set_grad_enabled(self.gradients)
            torch.set_num_threads(self.threads)
            torch.use_deterministic_algorithms(self.deterministic)
            torch.set_default_dtype(self.dtype)
        return f"changed torch's settings ({', '.join(changed)})" if changed else ""
