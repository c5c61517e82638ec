"""fairquant show, validate, recipes."""

from __future__ import annotations

from pathlib import Path

from helpers.command import fairquant


def test_show_validate_recipes_copy():
    assert "name: minimax" in fairquant("show", "quickstart").stdout
    assert "is valid" in fairquant("validate", "recipes/quickstart.yaml").stdout
    listed = fairquant("recipes").stdout
    assert "recipes/isic_resnet18.yaml" in listed
    assert "fq-baq" in listed
    assert fairquant("recipes", "copy", "quickstart", "mine.yaml").returncode == 0
    assert Path("mine.yaml").read_text().startswith("# Synthetic")
    again = fairquant("recipes", "copy", "quickstart", "mine.yaml")
    assert again.returncode == 2
    assert "exists already" in again.stderr
