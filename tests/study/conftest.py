"""Fixtures of the tests of comparisons and studies."""

from helpers.database import postgresql

__all__ = ["postgresql"]
