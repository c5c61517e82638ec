"""report.json has the keys that `Report` promises, no others."""

from __future__ import annotations

import json
from typing import get_type_hints

from fairquant.recipe import events


def test_a_finished_report_has_exactly_the_promised_keys_and_sections(finished):
    report = json.loads((finished.folder / "report.json").read_text())
    hints = get_type_hints(events.Report)
    assert set(report) == set(hints)
    for section, kind in hints.items():
        promised = getattr(kind, "__required_keys__", None)
        if promised is not None:
            assert promised <= set(report[section]) <= promised | kind.__optional_keys__, section


def test_every_metric_and_every_change_has_its_interval(finished):
    for metric in (*finished.report["metrics"].values(), *finished.report["baseline"]["metrics"].values()):
        assert set(metric) == set(get_type_hints(events.MetricReport))
    for change in finished.report["change"].values():
        assert set(change) == set(get_type_hints(events.ChangeReport))
        assert all(set(group) == set(get_type_hints(events.IntervalReport)) for group in change["by_group"].values())
