"""fairquant plugins: list, show, check and scaffold components."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fairquant.errors import UserError, suggestion

if TYPE_CHECKING:
    from fairquant.registry import Entry, Registry


class _Check(TyperGroup):
    """`plugins --check [NAME]` is `plugins check [NAME]`. (typer's Context is a private class.)"""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["check" if arg == "--check" else arg for arg in args])


app = typer.Typer(
    cls=_Check,
    invoke_without_command=True,
    help="List plugins; show one; check them (--check [NAME]); write a new one.",
)


@app.callback(invoke_without_command=True)
def plugins(context: typer.Context) -> None:
    """List components: role, name, what it is, distribution and version. Broken plugins are named."""
    if context.invoked_subcommand is not None:
        return
    from fairquant.registry import discover

    installed = discover()
    for entry in installed.registry.entries():
        print(f"{entry.role:12} {entry.name:22} {entry.summary:66} {entry.origin} {entry.version}".rstrip())
    for problem in installed.problems:
        print(f"warning: {problem}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A component's name, or ROLE:NAME.")]) -> None:
    """One component: options with types and defaults, docstring, source."""
    import inspect

    from fairquant.registry import discover
    from fairquant.registry.options import options_of

    registry = discover().registry
    for number, entry in enumerate(_named(registry, name)):
        cls = registry.load(entry.role, entry.name)
        print("\n" * (number > 0) + f"{entry.role} {entry.name}, of {entry.origin} {entry.version}")
        print(f"  {inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}\n")
        print("\n".join(f"  {line}" for line in (inspect.getdoc(cls) or "").splitlines()))
        print("\noptions:" if (options := options_of(cls)) else "\nno options")
        for option in options:
            print(f"  {option.name:20} {option.type:38} {option.default}")
        print("\nsource:\n" + inspect.getsource(cls).rstrip())


@app.command()
def check(name: Annotated[str | None, typer.Argument(help="A component's name; all by default.")] = None) -> None:
    """Check components against the contract of their role. Exits with 1 where one breaks it, or a plugin does not load."""
    from fairquant.registry import discover

    installed = discover()
    registry, failed = installed.registry, 0
    try:
        from fairquant.testing import conformance
        from fairquant.testing.contract import NotApplicable
        from fairquant.testing.run import instance_of
    except ImportError as error:
        raise UserError(
            f'the checks need their extra ({error.name} is missing): pip install "fairquant[testing]"'
        ) from error
    for problem in installed.problems if name is None else ():
        print(f"FAILED {problem}")
        failed += 1
    for entry in registry.entries() if name is None else _named(registry, name):
        label = f"{entry.role} {entry.name} ({entry.origin} {entry.version})"
        try:
            component = instance_of(registry.load(entry.role, entry.name))
        except NotApplicable as reason:
            print(f"skipped {label}: {reason}")
            continue
        except Exception as error:
            print(f"FAILED {label}: {error}")
            failed += 1
            continue
        results = conformance(entry.role, component)
        broken = [each for each in results if each.outcome == "failed"]
        ran = [each for each in results if each.outcome in ("passed", "failed", "expected")]
        failed += len(broken)
        print(f"{'FAILED' if broken else 'ok    '} {label}: {len(ran) - len(broken)} of {len(ran)} checks")
        for each in broken:
            print(f"         {each.check}: {each.reason}")
        for each in results:
            if each.outcome == "expected":
                print(f"         {each.check}: fails as declared: {each.reason}")
    if failed:
        raise typer.Exit(1)


@app.command()
def new(
    distribution: Annotated[str, typer.Argument(help="Name of the new distribution, such as my-package.")],
    role: Annotated[
        str,
        typer.Option(
            help="The role of its component: dataset, importance, reducer, allocator, quantizer, rounding, regularizer or metric."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The component's name in recipes; derived from the distribution's.")
    ] = None,
    to: Annotated[Path, typer.Option(help="The folder that the distribution is written to.")] = Path(),
) -> None:
    """Write a ready distribution: the component with a working example, its registration, a conformance test."""
    from fairquant.registry import discover
    from fairquant.registry.scaffold import new_plugin

    target, use = new_plugin(distribution, role, name, to, discover().registry)
    print(f"{target}: written. Next:")
    print(f"  pip install -e {target} && fairquant run recipes/quickstart.yaml '{use}'")
    print(f"  pytest {target}")


def _named(registry: Registry, name: str) -> list[Entry]:
    """Entries by name, or by ROLE:NAME."""
    role, _, rest = name.rpartition(":")
    entries = [entry for entry in registry.entries() if entry.name == rest and role in ("", entry.role)]
    if not entries:
        names = sorted({entry.name for entry in registry.entries()})
        raise UserError(f"no component is called {name!r}.{suggestion(rest, names)} See: fairquant plugins")
    return entries
