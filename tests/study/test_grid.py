"""The cells of a comparison."""

from __future__ import annotations

import pytest

from fairquant.errors import UserError
from fairquant.recipe.presets import library
from fairquant.study.grid import Cell, chosen_methods, make_cells


def test_cells_go_seed_by_seed_and_a_method_with_bits_of_its_own_takes_no_budget():
    cells = make_cells(["fp32", "uniform-4", "fq-qat"], [2.5, 3.0], [0, 1])
    assert [cell.row for cell in cells[:4]] == ["fp32", "uniform-4", "fq-qat @ 2.5", "fq-qat @ 3"]
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4
    assert cells[3].overrides == ("method=fq-qat", "seed=0", "budget.average_bits=3")
    assert make_cells(["fq-qat"], [], [5]) == [Cell("fq-qat", None, 5)]


def test_methods_by_name_or_all():
    everything = chosen_methods("all")
    assert everything[0] == "fp32"
    assert {"fairgrape", "fairquantize", "fairprune", "hawq", "impq", "fmpq", "nir", "fq-qat", "fq-baq"} <= set(
        everything
    )
    assert chosen_methods("fq-qat, fp32") == ("fq-qat", "fp32")
    with pytest.raises(UserError, match="no method is called 'fq-qt'. Did you mean 'fq-qat'"):
        chosen_methods("fq-qt")


def test_all_takes_every_preset_and_each_untrained_plan_once():
    everything = chosen_methods("all")
    assert {
        "adq",
        "iterative-qat",
        "uniform-2-ptq",
        "fq-qat-ptq",
        "fq-baq-ptq",
        "fairgrape-ptq",
        "hawq-ptq",
        "impq-ptq",
    } <= set(everything)
    assert not {"iterative-qat-ptq", "fq-distill-ptq", "fp32-ptq"} & set(
        everything
    )  # fq-qat-ptq's plan again, and no plan
    assert everything[:3] == ("fp32", "uniform-8", "uniform-8-ptq")
    assert library().load_method("fairgrape-ptq")["allocator"] == library().load_method("fairgrape")["allocator"]
    assert library().load_method("fq-qat-ptq")["train"] == {"post_training": True}
    assert "regularizers" not in library().load_method("fq-qat-ptq")
