"""Many runs at once: comparisons of methods on one budget, with honest statistics."""

from fairquant.study.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
