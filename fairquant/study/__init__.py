"""Many runs at once: comparisons of methods on one budget, and searches over settings."""

from fairquant.study.compare import compare
from fairquant.study.search import search

__all__ = ["compare", "search"]
