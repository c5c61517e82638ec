"""A resolved recipe: its digest."""

from __future__ import annotations

import yaml

from fairquant.recipe import read_recipe


def write(path, **sections):
    path.write_text(yaml.safe_dump({"dataset": {"name": "synthetic-lesions"}, **sections}))


def test_the_hash_is_of_what_can_change_the_result(tmp_path, registry):
    write(tmp_path / "r.yaml")
    read = lambda *overrides: read_recipe("r.yaml", overrides, registry=registry).digest()
    assert read() == read("tracking.mlflow=null")
    assert read() != read("seed=1") != read("train.epochs=3")
