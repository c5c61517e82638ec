"""At the end of a test session: how many checks ran on each component."""

from __future__ import annotations

from types import SimpleNamespace

from fairquant.pytest_plugin import pytest_terminal_summary


class Terminal:
    def __init__(self, *properties: str, when: str = "call") -> None:
        reports = [SimpleNamespace(user_properties=[("fairquant", text)], when=when) for text in properties]
        self.stats = {"passed": reports, "": [SimpleNamespace()]}
        self.lines: list[str] = []

    def section(self, title: str) -> None:
        self.lines.append(f"= {title}")

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_each_component_has_a_line_with_its_outcomes():
    terminal = Terminal("metric Gap|passed", "metric Gap|passed", "metric Gap|not applicable", "dataset Own|failed")
    pytest_terminal_summary(terminal)
    assert terminal.lines == [
        "= FairQuant contract", "dataset Own: 1 checks: 1 failed", "metric Gap: 3 checks: 1 not applicable, 2 passed",
    ]  # fmt: skip


def test_sessions_without_checks_say_nothing_and_set_up_is_not_counted():
    for terminal in (Terminal(), Terminal("metric Gap|passed", when="setup")):
        pytest_terminal_summary(terminal)
        assert terminal.lines == []
