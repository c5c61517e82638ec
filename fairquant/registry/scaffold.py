"""Write a new plugin distribution: `fairquant plugins new`."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template

from fairquant.errors import UserError, suggestion
from fairquant.files import write_atomically
from fairquant.registry.contract import CONTRACT
from fairquant.registry.registry import ROLES, Registry

#: How a recipe's command line asks for a component of each role.
USE = {
    "metric": "metrics=[accuracy, {{name: {name}}}]",
    "regularizer": "regularizers=[{{name: {name}}}]",
    **{
        role: role + ".name={name}"
        for role in ("dataset", "importance", "reducer", "allocator", "quantizer", "rounding")
    },
}


def new_plugin(distribution: str, role: str, name: str | None, folder: Path, registry: Registry) -> tuple[Path, str]:
    """Write the distribution to `folder`/`distribution`; returns it and the override that uses the new component.

    registry: whose names are taken. Raises UserError for invalid and for taken names, and where the folder exists.
    """
    if role not in ROLES:
        raise UserError(f"--role {role}: no such role.{suggestion(role, ROLES)} Roles: {', '.join(ROLES)}")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", distribution):
        raise UserError(f"{distribution!r} cannot be a distribution's name: letters, digits, '-', '_' and '.'")
    package = re.sub(r"[-.]+", "_", distribution).lower()
    if not package.isidentifier() or keyword.iskeyword(package):
        raise UserError(f"{distribution!r} gives the package name {package!r}, which Python does not allow")
    if package in sys.stdlib_module_names or find_spec(package) is not None:
        raise UserError(f"{distribution!r} gives the package name {package!r}, which is taken by an installed module")
    stem = re.sub(r"-?(package|plugin)$", "", distribution.lower().replace("_", "-"))
    name = name or (stem if stem.endswith(f"-{role}") else f"{stem or 'my'}-{role}")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UserError(f"--name {name}: component names are kebab-case, such as my-{role}")
    if name in registry.names(role):
        owner = registry.entry(role, name).origin
        raise UserError(f"--name {name}: {owner} has a {role} of this name already. Choose another with --name")
    target = folder / distribution
    if target.exists():
        raise UserError(f"{target}: exists already. Choose another name or remove it")
    use = USE[role].format(name=name)
    values = {
        "distribution": distribution, "package": package, "role": role, "name": name, "module": role, "use": use,
        "cls": "".join(word.capitalize() for word in name.split("-")), "suite": f"{role.capitalize()}Suite",
        "summary": f"the {role} of {distribution}", "contract": str(CONTRACT),
    }  # fmt: skip
    if values["cls"][0].isdigit():
        values["cls"] = f"{role.capitalize()}{values['cls']}"
    files = {
        "pyproject.toml": "pyproject.toml", "README.md": "README.md", f"{package}/plugin.py": "plugin.py",
        f"{package}/{role}.py": f"{role}.py", f"tests/test_{package}.py": "test_contract.py",
    }  # fmt: skip
    templates = Path(__file__).parent / "templates"
    for file, template in files.items():
        text = Template((templates / f"{template}.txt").read_text(encoding="utf-8")).substitute(values)
        write_atomically(target / file, text.encode())
    write_atomically(target / package / "__init__.py", f'"""The {role} {name}."""\n'.encode())
    return target, use
