"""Where each key of a YAML file stands."""

from __future__ import annotations

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe

GOOD = "dataset: {name: synthetic-lesions}\n"


def test_text_that_is_no_yaml_names_the_line(tmp_path, registry):
    (tmp_path / "bad.yaml").write_text(GOOD + "train: {epochs: 3\n")
    with pytest.raises(UserError, match=r"bad.yaml:3: not valid YAML"):
        read_recipe("bad.yaml", registry=registry)
