"""What code a result depends on: digests of plugins and of a caller's own network."""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import torch
from torch import nn

#: What Python and trackers write by themselves.
WRITTEN = {".pyc", ".pyo", ".db", ".log"}
#: Folders of results and of tools.
OUTPUTS = {"__pycache__", "runs", "mlruns", "mlartifacts", "venv", "node_modules"}
#: Attributes that every module of torch has.
_TORCHS_OWN = set(vars(nn.Module()))
#: Packages whose code is told by their versions (see `fairquant.runs.folder.versions`).
VERSIONED = {"fairquant", "torch", "torchvision", "timm", "numpy", "scipy"}


def source_digest(module: str, origin: str | None = None) -> str:
    """SHA-256 of a module's package, all of its files, and of the modules that these import, as far as they belong to the same
    distribution, or to none; empty where there are no files."""
    total = hashlib.sha256()
    files = sorted(_files(module.partition(".")[0], origin or "", set()))
    for file in files:
        total.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest() if files else ""


def _files(package: str, origin: str, seen: set[str]) -> Iterator[Path]:
    """All files of a top-level package or module, and of those that it imports."""
    if package in seen or package in VERSIONED or package in sys.stdlib_module_names:
        return
    seen.add(package)
    module = sys.modules.get(package)
    found = [file for place in _places(module) for file in _below(place)] if module is not None else []
    yield from found
    for file in found:
        others = _imported(file) - seen - VERSIONED - sys.stdlib_module_names if file.suffix == ".py" else set()
        for other in sorted(others):
            if set(_owners().get(other, [origin])) <= {origin}:
                yield from _files(other, origin, seen)


def _places(module: ModuleType) -> list[Path]:
    """The folders of a package, of which a namespace package has several, or the file of a module."""
    if paths := getattr(module, "__path__", None):
        return [Path(each) for each in paths]
    file = getattr(module, "__file__", None)
    return [Path(file)] if file else []


def _below(place: Path) -> list[Path]:
    """The files of a package, without what runs, trackers and tools may have written into its folder."""
    if place.is_file():
        return [place]
    found: list[Path] = []
    for folder, folders, files in os.walk(place):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in OUTPUTS]
        found += [Path(folder, name) for name in files if Path(name).suffix not in WRITTEN and not name.startswith(".")]
    return found


def _imported(file: Path) -> set[str]:
    """Top-level names of the modules that a source file imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@functools.cache
def _owners() -> dict[str, list[str]]:
    return dict(packages_distributions())


def network_digest(network: nn.Module) -> str:
    """SHA-256 of the code of a network's own modules, and of the attributes, other than weights, that their computation may
    use."""
    total = hashlib.sha256()
    for name, module in network.named_modules():
        cls = type(module)
        total.update(f"{name} {cls.__module__}.{cls.__qualname__}".encode())
        for key, value in sorted(vars(module).items()):
            if key not in _TORCHS_OWN:
                total.update(f"{key}={_plain(value)}".encode())
    classes = {base for module in network.modules() for base in type(module).__mro__ if _is_own(base)}
    for cls in sorted(classes, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}"):
        total.update(_class_digest(cls).encode())
    return total.hexdigest()


def _is_own(cls: type) -> bool:
    package = cls.__module__.partition(".")[0]
    return (package not in VERSIONED and package not in sys.stdlib_module_names) or package == "__main__"


def _class_digest(cls: type) -> str:
    """Of its whole package where it has one; of a script or a notebook, which changes for other reasons too, the code of the
    class, and of the functions and constants that it uses by name."""
    if cls.__module__ != "__main__":
        return source_digest(cls.__module__)
    total = hashlib.sha256()
    for function in _functions(cls):
        _add_code(function, total.update, set())
    return total.hexdigest()


def _functions(cls: type) -> Iterator[FunctionType]:
    for _, value in sorted(vars(cls).items()):
        function = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", value)))
        if isinstance(function, FunctionType):
            yield function


def _add_code(function: FunctionType, update: Callable[[bytes], None], seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    for code in _codes(function.__code__):
        constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
        update(code.co_code + repr((code.co_names, constants, code.co_varnames)).encode())
        for name in _globals_of(code):
            used = function.__globals__.get(name)
            if isinstance(used, FunctionType) and used.__module__ == "__main__":
                _add_code(used, update, seen)
            elif isinstance(used, bool | int | float | str | tuple):
                update(f"{name}={_plain(used)}".encode())


def _globals_of(code: CodeType) -> list[str]:
    """Names that are looked up in the module; `co_names` has those of attributes, too."""
    loads = (each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    return [*dict.fromkeys(loads)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions in it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _plain(value: object) -> str:
    """A value as text that is the same in every process."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        ).hexdigest()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_plain(key)}:{_plain(each)}' for key, each in value.items())}}}"
    if isinstance(value, functools.partial):
        return f"{_plain(value.func)}{_plain(value.args)}{_plain(value.keywords)}"
    return f"{type(value).__module__}.{type(value).__qualname__} {getattr(value, '__qualname__', '')}"
