"""fairquant plugins new: what it writes installs, keeps its contract and runs, untouched; for every role."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.registry.registry import ROLES, Registry
from fairquant.registry.scaffold import new_plugin

FAIRQUANT = [sys.executable, "-m", "fairquant"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """One distribution for each role, all installed to a folder of their own."""
    folder, target = tmp_path_factory.mktemp("new"), tmp_path_factory.mktemp("site")
    for role in ROLES:
        new_plugin(f"acme-{role}-package" if role == "metric" else f"acme-{role}s", role, None, folder, Registry())
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    subprocess.run([*command, *map(str, sorted(folder.iterdir()))], check=True, capture_output=True)
    (target / "sources").symlink_to(folder)
    return target


def run(site: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), **more}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_each_is_listed_and_keeps_its_contract_by_its_own_untouched_tests(site):
    listed = run(site, *FAIRQUANT, "plugins").stdout
    for role in ROLES:
        assert any(line.startswith(role) and "acme-" in line for line in listed.splitlines()), role
    process = run(
        site,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
        str(site / "sources"),
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "FairQuant contract" in process.stdout
    assert "metric AcmeMetric: 16 checks: " in process.stdout, process.stdout
    checked = run(site, *FAIRQUANT, "plugins", "--check", "acme-allocators-allocator")
    assert (checked.returncode, checked.stdout[:9]) == (0, "ok     al"), checked.stdout


def test_all_of_them_run_in_one_recipe(site):
    names = {role: f"acme-{role}s-{role}" for role in ROLES} | {"metric": "acme-metric"}
    overrides = [
        f"{role}.name={names[role]}" for role in ("dataset", "importance", "reducer", "allocator", "quantizer")
    ]
    process = run(
        site, *FAIRQUANT, "run", "quickstart", "method=fq-qat", *overrides, f"regularizers=[{{name: {names['regularizer']}}}]",
        f"metrics=[accuracy, {{name: {names['metric']}}}]", "baseline.epochs=1", "train.epochs=1", "model.image_size=32",
        "quantize.choices=[2, 3, 4, 8]", "tracking.mlflow=null",
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    assert names["metric"] in process.stdout
    assert "acme-metric-package" in next(Path("runs").rglob("report.json")).read_text()


def test_a_width_that_the_quantizer_lacks_is_reported(site):
    process = run(site, *FAIRQUANT, "validate", "quickstart", "quantizer.name=acme-quantizers-quantizer")
    assert process.returncode == 2
    assert "quantizer 'acme-quantizers-quantizer' has no width 1. Set [0, 2, 3, 4, 5, 6, 7, 8]" in process.stderr


@pytest.mark.parametrize("role", ROLES)
def test_the_module_is_short(tmp_path, role):
    target, _ = new_plugin("my-package", role, None, tmp_path, Registry())
    assert len((target / "my_package" / f"{role}.py").read_text().splitlines()) <= 40
    assert f"my-{role}" in (target / "my_package" / "plugin.py").read_text()


def test_names_that_cannot_be(tmp_path, registry):
    for arguments, text in {
        ("json", "metric", None): "package name 'json', which is taken by an installed module",
        ("NumPy", "metric", None): "package name 'numpy', which is taken by an installed module",
        ("foo", "metric", "accuracy"): "fairquant has a metric of this name already",
        ("my-package", "metrik", None): "no such role. Did you mean 'metric'?",
        ("1-package", "metric", None): "package name '1_package', which Python does not allow",
        ("my package", "metric", None): "cannot be a distribution's name",
        ("my-package", "metric", "MyMetric"): "kebab-case, such as my-metric",
    }.items():
        with pytest.raises(UserError, match=text.replace("?", r"\?")):
            new_plugin(*arguments, tmp_path, registry)
    new_plugin("my-package", "metric", None, tmp_path, registry)
    assert new_plugin("own-rounding", "rounding", None, tmp_path / "new", registry)[1] == "rounding.name=own-rounding"
    with pytest.raises(UserError, match="exists already"):
        new_plugin("my-package", "metric", None, tmp_path, registry)
