"""FairQuant: fair mixed-precision quantization of medical image classifiers.

fairquant.run(recipe) runs a recipe, compare(recipe, ...) many methods, compare_all(recipes, ...) on many recipes and networks,
search(recipe) its search section; diff(a, b) puts two runs or artifacts side by side;
fairquant.quantize(model, ...) quantizes your own module; fairquant.load(path) gives the small model back.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["UserError", "__version__", "compare", "compare_all", "diff", "load", "quantize", "run", "search"]

if TYPE_CHECKING:
    from fairquant.api import quantize, run
    from fairquant.artifact import load
    from fairquant.errors import UserError
    from fairquant.study import compare, compare_all, diff, search

#: Where each public function lives; importing it imports torch.
_MODULES = {
    "run": "fairquant.api", "quantize": "fairquant.api", "load": "fairquant.artifact", "compare": "fairquant.study",
    "compare_all": "fairquant.study", "diff": "fairquant.study", "search": "fairquant.study", "UserError": "fairquant.errors",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """torch is imported when it is first needed, so that the command line starts at once."""
    if name not in _MODULES:
        raise AttributeError(f"module 'fairquant' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
