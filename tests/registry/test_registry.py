"""Names to classes: added as text, imported when they are asked for, checked against their role."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.registry import ROLES, Registry
from fairquant.registry.registry import METRIC, REDUCER

MODULE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Good:
    alpha: float = 0.5
    def reduce(self, importance, group_names): ...

@dataclass(frozen=True)
class NoMethod:
    alpha: float = 0.5

class NoDataclass:
    def reduce(self, importance, group_names): ...
"""


@pytest.fixture
def module(monkeypatch):
    Path("some_reducers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(".")
    yield
    sys.modules.pop("some_reducers", None)


def registry_of(*targets: str) -> Registry:
    registry = Registry()
    for target in targets:
        registry.add("reducer", target.partition(":")[2].lower(), target, origin="acme")
    return registry


def test_adding_imports_nothing_and_loading_does(module):
    registry = registry_of("some_reducers:Good")
    assert "some_reducers" not in sys.modules
    assert registry.load(REDUCER, "good").__name__ == "Good"
    assert "some_reducers" in sys.modules


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("no_such_module:Good", "reducer 'good' of acme does not load .no_such_module:Good.: ModuleNotFoundError"),
        ("some_reducers:Absent", "does not load .some_reducers:Absent.: AttributeError"),
        ("some_reducers:NoDataclass", "some_reducers:NoDataclass is not a dataclass"),
        ("some_reducers:NoMethod", r"some_reducers:NoMethod lacks reduce\(\) of its role"),
    ],
)
def test_what_does_not_fit_its_role_is_named_with_its_distribution(module, target, problem):
    with pytest.raises(UserError, match=problem):
        registry_of(target).load(REDUCER, target.partition(":")[2].lower())


def test_a_metric_without_the_attributes_of_its_role_is_named(tmp_path, monkeypatch):
    text = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Bare:\n    def evaluate(self, confusion): ...\n"
    (tmp_path / "bare_metrics.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    registry.add("metric", "bare", "bare_metrics:Bare", origin="acme")
    with pytest.raises(
        UserError, match="metric 'bare' of acme: bare_metrics:Bare lacks needs and gap, attributes of its role"
    ):
        registry.load(METRIC, "bare")


def test_an_unknown_name_is_reported_with_the_known_ones():
    with pytest.raises(UserError, match=r"no reducer is called 'god'. Did you mean 'good'\? Known: good"):
        registry_of("some_reducers:Good").load(REDUCER, "god")


def test_a_registry_takes_all_of_another_or_nothing():
    registry, other = registry_of("a:Good"), registry_of("b:Other", "b:Good")
    with pytest.raises(ValueError, match=r"reducer 'good' is registered twice: a:Good .acme. and b:Good"):
        registry.take(other)
    assert registry.names("reducer") == ["good"]


def test_entries_are_sorted_by_role_and_name(registry):
    places = [(list(ROLES).index(entry.role), entry.name) for entry in registry.entries()]
    assert places == sorted(places)
    assert {entry.role for entry in registry.entries("metric")} == {"metric"}


def test_building_adds_what_is_wrong_to_the_problems(module):
    registry, problems = registry_of("some_reducers:Good"), []
    assert registry.build(REDUCER, "good", {"alpha": 0.25}, "reducer", problems).alpha == 0.25
    assert not problems
    assert registry.build(REDUCER, "good", {"alpha": "x"}, "reducer", problems) is None
    assert registry.build(REDUCER, "best", {}, "reducer", problems) is None
    assert problems[0] == ("reducer.alpha", "expected a number, got 'x'")
    assert problems[1][0] == "reducer.name"


def test_recipes_need_a_package_and_its_folder():
    with pytest.raises(ValueError, match="'no_such_package' is not an importable package"):
        Registry().add_recipes("no_such_package")
    with pytest.raises(ValueError, match="package 'fairquant' has no folder 'nowhere'"):
        Registry().add_recipes("fairquant", "nowhere")


def test_every_registered_component_loads_and_has_a_summary(registry):
    for entry in registry.entries():
        assert registry.load(entry.role, entry.name)
        assert entry.summary, entry
