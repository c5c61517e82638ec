"""fairquant plugins: every component that is installed."""

from __future__ import annotations


def plugins() -> None:
    """List components: role, name, what it is, distribution and version. Broken plugins are named."""
    from fairquant.registry import discover

    found = discover()
    for entry in found.registry.entries():
        print(f"{entry.role:12} {entry.name:22} {entry.summary:66} {entry.origin} {entry.version}".rstrip())
    for problem in found.problems:
        print(f"warning: {problem}")
