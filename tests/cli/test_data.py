"""fairquant data prepare: which data sets can be fetched."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.errors import UserError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("isic", "no dataset is called 'isic'. Did you mean 'isic2019'?"),
        ("synthetic-lesions", "dataset 'synthetic-lesions' has nothing to fetch"),
    ],
)
def test_a_data_set_that_cannot_be_fetched_is_refused(name, message):
    result = CliRunner().invoke(app, ["data", "prepare", name])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
