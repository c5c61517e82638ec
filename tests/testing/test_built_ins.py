"""Every component that ships keeps its role's contract, in its default form and in its others."""

from __future__ import annotations

import pytest

from fairquant.registry import discover
from fairquant.testing import CHECKS
from fairquant.testing.contract import NotApplicable, run_check
from fairquant.testing.run import instance_of

ENTRIES = [entry for entry in discover().registry.entries() if entry.origin == "fairquant"]
FORMS: dict[tuple[str, str], list[dict[str, object]]] = {
    ("reducer", "cvar"): [{}, {"alpha": 0.3}],
    ("importance", "gradient"): [{}, {"over": "batch"}],
    ("importance", "grape"): [{}, {"over": "batch"}],
    ("allocator", "fairquantize"): [{}, {"unprivileged": "a"}],
    ("allocator", "fairprune"): [{}, {"unprivileged": "a"}],
    ("quantizer", "uniform"): [{"scale": scale} for scale in ("absmax", "mse", "learned")],
    ("quantizer", "baq"): [{"gradient": g, "scale": s} for g in ("fractional", "step") for s in ("absmax", "quantile", "mse")],
    ("rounding", "fair-gptq"): [{}, {"drift": False, "bias": False, "scale": False, "sweeps": 0}],
    ("regularizer", "distillation"): [{}, {"balanced": True}],
    **{
        ("metric", name): [{"convention": convention} for convention in ("valid", "fairprune", "fairquant")]
        for name in ("eopp0", "eopp1", "eodd")
    },
}  # fmt: skip
CASES = [
    pytest.param(
        entry,
        options,
        check,
        id=f"{entry.role}-{entry.name}-{'-'.join(map(str, (options or {}).values()))}-{check.name}",
    )
    for entry in ENTRIES
    for options in FORMS.get((entry.role, entry.name), [None])
    for check in CHECKS[entry.role]
]


@pytest.mark.parametrize(("entry", "options", "check"), CASES)
def test_contract(entry, options, check, registry):
    cls = registry.load(entry.role, entry.name)
    try:
        component = instance_of(cls) if options is None else cls(**options)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    result = run_check(check, component, {})
    if result.outcome == "not applicable":
        pytest.skip(result.reason)
    assert result.outcome in ("passed", "expected"), result.reason
