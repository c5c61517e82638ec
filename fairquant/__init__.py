"""FairQuant: fair mixed-precision quantization of medical image classifiers.

fairquant.run(recipe) runs a recipe, compare(recipe, ...) many methods, search(recipe) its search section;
fairquant.quantize(model, ...) quantizes your own module; fairquant.load(path) gives the small model back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "load", "quantize", "run", "search"]

if TYPE_CHECKING:
    from fairquant.api import quantize, run
    from fairquant.artifact import load
    from fairquant.study import compare
    from fairquant.study.search import search


def __getattr__(name: str) -> Any:
    """torch is imported when it is first needed, so that the command line starts at once."""
    if name in ("run", "quantize"):
        from fairquant import api

        return getattr(api, name)
    if name == "compare":
        from fairquant.study import compare

        return compare
    if name == "search":
        from fairquant.study.search import search

        return search
    if name == "load":
        from fairquant.artifact import load

        return load
    raise AttributeError(f"module 'fairquant' has no attribute {name!r}")
