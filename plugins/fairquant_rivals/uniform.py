"""The plain baseline: every unit gets the same bits."""

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
        """Pairs (recipe key, what is wrong) where `bits` exceeds the budget or is not among the choices."""
        problems = []
        if self.bits is not None and self.bits > average_bits:
            problems.append(
                ("budget.average_bits", f"{average_bits:g} is below the allocator's {self.bits} bits everywhere")
            )
        if self.bits is not None and self.bits not in choices:
            problems.append(("quantize.choices", f"the allocator's {self.bits} bits are not among {list(choices)}"))
        return problems

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """The same bits for every unit [U]. Infeasible where they are not among the choices or exceed the budget."""
        candidates = problem.choices if self.bits is None else (self.bits,)
        choices = torch.tensor(problem.choices)
        for bits in sorted(candidates, reverse=True):
            if bits not in problem.choices:
                raise Infeasible(f"allocator.bits: {bits} is not among quantize.choices {list(problem.choices)}")
            free = problem.allowed[:, problem.choices.index(bits)]
            plan = torch.where(free, bits, choices[problem.allowed.int().argmax(1)])
            if problem.fits(plan):
                return Allocation(plan, nominal_bits=float(bits))
        raise Infeasible(
            f"{min(candidates)} bits everywhere exceed the budget of {problem.average_bits:g} bits. "
            "Raise budget.average_bits or lower allocator.bits"
        )
