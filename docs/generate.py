"""Write docs/reference/ from the code: `python docs/generate.py`. A test fails where a page is not what this writes."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import typer

from fairquant.cli import app
from fairquant.registry import discover, hookspecs
from fairquant.registry.discovery import OURS
from fairquant.registry.options import Option, options_of
from fairquant.registry.registry import ROLES

FOLDER = Path(__file__).parent / "reference"
HEAD = "<!-- Written by docs/generate.py from the code. Do not edit. -->\n\n"


def pages() -> dict[str, str]:
    """File name to content."""
    return {
        "components.md": components(),
        "recipe.md": recipe(),
        "cli.md": command_line(),
        "hooks.md": hooks(),
        "rules.md": rules(),
    }


def components() -> str:
    """Every component that ships, by role, with its options."""
    registry = discover().registry
    parts = [HEAD + "# Components\n\nEverything that ships, by role. `fairquant plugins show NAME` adds the source.\n"]
    for role in ROLES:
        parts.append(f"\n## {role}\n")
        for entry in registry.entries(role):
            if entry.origin != OURS:
                continue
            cls = registry.load(role, entry.name)
            text = paragraphs(inspect.getdoc(cls) or "")
            parts.append(f"\n### `{entry.name}`\n\n{text}\n{table(options_of(cls))}")
    return "".join(parts)


def recipe() -> str:
    """The plain sections of a recipe."""
    from fairquant.recipe.schema import PLAIN_SECTIONS

    parts = [HEAD + "# Recipe sections\n\nWhat is not a component. `baseline` and `train` take the same keys.\n"]
    for section, cls in PLAIN_SECTIONS.items():
        if section != "baseline":
            parts.append(f"\n## {section}\n\n{paragraphs(inspect.getdoc(cls) or '')}\n{table(options_of(cls))}")
    return "".join(parts)


def command_line() -> str:
    """Every command with its arguments and options."""
    parts = [HEAD + "# Command line\n\nAll commands. User errors end with exit code 2, bugs with 1, Ctrl-C with 130.\n"]

    def add(command: Any, name: str) -> None:
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        shown = "".join(f" {p.name.upper()}" if p.required else f" [{p.name.upper()}]" for p in arguments)
        parts.append(f"\n## `{name}{shown}`\n\n{paragraphs(inspect.cleandoc(command.help or ''))}\n")
        rows = [
            (p.name.upper() if p in arguments else ", ".join(p.opts), p) for p in command.params if p.name != "help"
        ]
        if rows:
            parts.append("\n| | what | default |\n|---|---|---|\n")
        for label, p in rows:
            default = (
                "required"
                if p.required
                else ""
                if p.default in (None, False, "") or callable(p.default)
                else f"`{p.default}`"
            )
            parts.append(f"| `{label}` | {getattr(p, 'help', '') or ''} | {default} |\n")
        for child in getattr(command, "commands", {}).values():
            add(child, f"{name} {child.name}")

    for command in getattr(typer.main.get_command(app), "commands", {}).values():
        add(command, f"fairquant {command.name}")
    return "".join(parts)


def hooks() -> str:
    """Every hook with its arguments."""
    parts = [HEAD + "# Hooks\n\n" + paragraphs((inspect.getdoc(hookspecs) or "").split("\n\n")[0]) + "\n"]
    for name, function in vars(hookspecs).items():
        if name.startswith("fairquant_") and inspect.isfunction(function):
            signature = str(inspect.signature(function)).replace("'", "").replace(" -> None", "")
            parts.append(f"\n## `{name}{signature}`\n\n{inspect.getdoc(function)}\n")
    return "".join(parts)


def rules() -> str:
    """Every check of the conformance kit."""
    from fairquant.testing import CHECKS
    from fairquant.testing.contract import SHARED

    shared = {function.__name__ for function in SHARED}
    parts = [HEAD + "# Rules\n\nWhat `fairquant plugins --check` and `fairquant.testing` check in a component.\n"]

    def rows(checks: list[Any]) -> str:
        return "\n| check | rule |\n|---|---|\n" + "".join(f"| `{c.name}` | {paragraphs(c.rule)} |\n" for c in checks)

    parts.append("\n## every role\n" + rows([c for c in CHECKS["metric"] if c.name in shared]))
    for role, checks in CHECKS.items():
        parts.append(f"\n## {role}\n" + rows([c for c in checks if c.name not in shared]))
    return "".join(parts)


def table(options: tuple[Option, ...]) -> str:
    if not options:
        return "\nNo options.\n"
    rows = "".join(f"| `{o.name}` | {o.type.replace('|', 'or')} | `{o.default}` |\n" for o in options)
    return f"\n| option | type | default |\n|---|---|---|\n{rows}"


def paragraphs(text: str) -> str:
    """A docstring as Markdown: its lines joined, what would be read as markup escaped."""
    unwrapped = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    pieces = unwrapped.split("`")  # every other one is code
    pieces[::2] = [re.sub(r"([*_|<>])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in pages().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(f"docs/reference/{name}: {len(content.splitlines())} lines", file=sys.stderr)
