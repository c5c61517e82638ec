"""Registered with pytest: reports at the end how many checks ran on each component."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:  # Any: a private class of pytest
    """One line a component: so that a suite without checks is noticed."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "fairquant" and getattr(report, "when", "") == "call":
                    component, _, outcome = str(value).partition("|")
                    counts[component][outcome] += 1
    if not counts:
        return
    terminalreporter.section("FairQuant contract")
    for component, outcomes in sorted(counts.items()):
        shown = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items(), key=lambda item: item[0]))
        terminalreporter.line(f"{component}: {sum(outcomes.values())} checks: {shown}")
