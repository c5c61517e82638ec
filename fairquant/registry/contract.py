"""The version of what plugins may rely on. docs/contract.md says what that is.

A plugin's module says which one it was built for: `FAIRQUANT_CONTRACT = 1`. Without it, 1 is meant.
"""

from __future__ import annotations

CONTRACT = 1

#: What a plugin built for an older contract has to change, by that contract's version.
CHANGES: dict[int, str] = {}


def objection(built_for: object) -> str | None:
    """Why a plugin built for that contract cannot be used, and what to change; None where it can."""
    if not isinstance(built_for, int) or isinstance(built_for, bool):
        return f"FAIRQUANT_CONTRACT must be a whole number, got {built_for!r}"
    if built_for == CONTRACT:
        return None
    if built_for > CONTRACT:
        return f"it was built for contract {built_for}, this FairQuant has contract {CONTRACT}: upgrade fairquant"
    changes = "".join(f"{CHANGES[version]} " for version in sorted(CHANGES) if version >= built_for)
    return (
        f"it was built for contract {built_for}, this FairQuant has contract {CONTRACT}: upgrade the plugin. "
        f"{changes}See docs/contract.md, then set FAIRQUANT_CONTRACT = {CONTRACT}"
    )
