"""Many runs at once: comparisons of methods on one budget, two runs side by side, and searches over settings."""

from fairquant.study.compare import compare, compare_all
from fairquant.study.diff import diff
from fairquant.study.search import search

__all__ = ["compare", "compare_all", "diff", "search"]
