"""Models whose values are not finite numbers are neither written nor read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Statistics of batch norm: as ordinary as parameters; other buffers, such as masks of attention, may hold infinities.
MEAN, VARIANCE = "running_mean", "running_var"


def finite_problems(network: nn.Module) -> list[str]:
    """What is wrong with the values of a network, by name: parameters and statistics of batch norm that are NaN or infinite,
    variances below 0, other buffers that are NaN."""
    parameters = {name for name, _ in network.named_parameters()}
    problems = []
    for name, value in network.state_dict().items():
        own = name.rpartition(".")[2]
        problem = value_problem(value, may_be_infinite=name not in parameters and own not in (MEAN, VARIANCE))
        if not problem and own == VARIANCE and bool((value < 0).any()):
            problem = "has variances below 0"
        if problem:
            problems.append(f"{name!r} {problem}")
    return problems


def value_problem(value: Tensor, may_be_infinite: bool = False) -> str:
    """What is wrong with one tensor; "" where nothing is."""
    if not (value.is_floating_point() or value.is_complex()):
        return ""
    bad = torch.isnan(value) if may_be_infinite else ~torch.isfinite(value)
    count = int(bad.sum())
    what = "NaN" if may_be_infinite or bool(torch.isnan(value).any()) else "infinite"
    return f"has {count} of {value.numel()} values that are {what}" if count else ""


def listed(problems: list[str]) -> str:
    """The first three, in a sentence."""
    return ", ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
