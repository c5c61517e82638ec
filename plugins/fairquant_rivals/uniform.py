"""The plain baseline: every unit gets the same bits, whatever it matters to whom."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fairquant.errors import Infeasible
from fairquant.roles import Allocation, AllocationProblem


@dataclass(frozen=True)
class UniformBits:
    """`bits` for every unit (pinned layers keep theirs); bits null: the largest choice within the budget."""

    bits: int | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and not 0 <= self.bits <= 8:
            raise ValueError(f"bits: must be within 0..8, got {self.bits!r}")

    def objections(self, average_bits: float, choices: tuple[int, ...]) -> list[tuple[str, str]]:
        found = []
        if self.bits is not None and self.bits > average_bits:
            found.append(
                ("budget.average_bits", f"{average_bits:g} is below the allocator's {self.bits} bits everywhere")
            )
        if self.bits is not None and self.bits not in choices:
            found.append(("quantize.choices", f"the allocator's {self.bits} bits are not among {list(choices)}"))
        return found

    def allocate(self, problem: AllocationProblem) -> Allocation:
        wanted = problem.choices if self.bits is None else (self.bits,)
        choices = torch.tensor(problem.choices)
        for bits in sorted(wanted, reverse=True):
            if bits not in problem.choices:
                raise Infeasible(f"allocator.bits: {bits} is not among quantize.choices {list(problem.choices)}")
            free = problem.allowed[:, problem.choices.index(bits)]
            plan = torch.where(free, bits, choices[problem.allowed.int().argmax(1)])
            if problem.fits(plan):
                return Allocation(plan, nominal_bits=float(bits))
        raise Infeasible(
            f"{min(wanted)} bits everywhere exceed the budget of {problem.average_bits:g} bits. "
            "Raise budget.average_bits or lower allocator.bits"
        )
