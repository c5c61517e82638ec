"""The page of several comparisons: blocks by recipe and network, links, what went wrong and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from helpers.reports import comparison_of, failed_row, row

from fairquant.recipe import read_recipe
from fairquant.report.comparison import Grid
from fairquant.report.grid import grid_latex, grid_markdown, grid_page


def grid(registry) -> Grid:
    def part(recipe: str, model: str, folder: str):
        base = read_recipe(recipe, (f"model.name={model}",), registry=registry, demo=True)
        made = comparison_of(
            base, row("fp32", bits=32.0), row("fq-baq"), failed_row("hawq @ 1", f"too few bits for {model}")
        )
        return replace(made, folder=Path(folder))

    parts = [
        part(recipe, model, f"runs/{recipe}/{model}")
        for recipe in ("fitz_deit", "isic_deit")
        for model in ("resnet18", "resnet50")
    ]
    return Grid(comparisons=tuple(parts), folder=Path("runs/compare-all"))


def test_a_block_for_each_network_under_each_recipe_with_a_link_to_its_page(registry):
    page = grid_page(grid(registry))
    assert page.index("fitz_deit") < page.index("isic_deit")
    for recipe in ("fitz_deit", "isic_deit"):
        for model in ("resnet18", "resnet50"):
            assert f'<a href="../{recipe}/{model}/compare.html">{model}</a>' in page
            assert f"{recipe}, {model}: hawq @ 1: too few bits for {model}" in page
    assert page.count('rowspan="3"') == 4
    assert page.count("Bold: the best mean") == 1  # what is the same everywhere is said once
    assert "DEMO" in page
    assert "3 methods on 2 recipes and 2 networks" in page


def test_markdown_and_latex_hold_every_table_under_its_name(registry):
    made = grid(registry)
    assert grid_markdown(made).count("| method |") == 4
    assert "## isic_deit, resnet50" in grid_markdown(made)
    assert grid_latex(made).count(r"\begin{tabular}") == 4
    assert "% isic_deit, resnet50" in grid_latex(made)
