"""Plugins that end the process, raise what is no Exception, or print."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from fairquant.errors import Terminated, UserError
from fairquant.registry import hookimpl
from fairquant.registry.contained import Escaped, contained
from fairquant.registry.discovery import discover
from fairquant.registry.registry import Registry


class TheirOwn(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "words"), [(SystemExit(3), r"it called sys.exit\(3\)"), (TheirOwn("no"), "TheirOwn: no")]
)
def test_what_passes_every_handler_becomes_an_error_with_words(error, words):
    with pytest.raises(Escaped, match=words), contained():
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated("SIGTERM", 15), ValueError("plain")])
def test_the_users_wish_and_plain_errors_pass(error):
    with pytest.raises(type(error)), contained():
        raise error


def test_what_a_plugin_prints_is_not_the_commands_output(capsys):
    with contained():
        print("hello from a plugin")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello from a plugin\n")


def point(load):
    return SimpleNamespace(
        name="theirs", load=load, dist=SimpleNamespace(name="their-package", version="1"), value="theirs"
    )


def test_a_plugin_that_exits_when_it_is_imported_is_skipped_and_named():
    plugins = discover([point(lambda: sys.exit(7))])
    assert plugins.problems == ("plugin 'theirs' of their-package is skipped: it called sys.exit(7)",)


def test_a_listener_that_exits_costs_a_warning():
    module = ModuleType("theirs")

    @hookimpl
    def fairquant_run_started(run):
        raise SystemExit(9)

    module.fairquant_run_started = fairquant_run_started
    plugins = discover([point(lambda: module)])
    assert plugins.notify("fairquant_run_started", run=None) == [
        "plugin 'theirs' failed in fairquant_run_started: it called sys.exit(9)"
    ]
    watched = plugins.notify_watched("fairquant_run_started", {"run": None}, lambda: "changed the weather")
    assert watched[1] == "plugin 'theirs' changed the weather in fairquant_run_started, which is undone"


def test_a_component_that_exits_when_it_is_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(4)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    registry.add("metric", "leaves", "leaving:Metric", origin="their-package")
    with pytest.raises(UserError, match=r"metric 'leaves' of their-package does not load .*: it called sys.exit\(4\)"):
        registry.load("metric", "leaves")
