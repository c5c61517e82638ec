"""The plain sections check their own ranges; budgets have units."""

from __future__ import annotations

import pytest

from fairquant.recipe.schema import PLAIN_SECTIONS
from fairquant.recipe.sections import COUNTS, SIZES, TIMES, BudgetSettings, QuantizeSettings, quantity
from fairquant.registry.build import build


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("2.5MB", SIZES, 2.5e6), ("90 kB", SIZES, 9e4), ("1MiB", SIZES, 2**20), ("300B", SIZES, 300.0), ("12G", COUNTS, 12e9),
        ("3ms", TIMES, 3.0), ("250us", TIMES, 0.25), ("0MB", SIZES, None), ("-1MB", SIZES, None), ("MB", SIZES, None),
        ("2.5", SIZES, None), ("3s", TIMES, None), ("1e3MB", SIZES, None),
    ],
)  # fmt: skip
def test_a_quantity_is_a_positive_number_with_its_unit(text, units, value):
    assert quantity(text, units) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": "big"}, "size: must be a number with one of MB, kB"),
        ({"bops": "12G"}, "bops: a plan has one kind of cost"),
        ({"average_bits": None, "bops": "12G", "latency": "3ms", "latency_table": "t"}, "Leave out bops or latency"),
        ({"average_bits": None}, "give average_bits, size, bops or latency"),
        ({"average_bits": None, "latency": "3ms"}, "latency: needs latency_table"),
        ({"latency_table": "t.json"}, "latency: needs latency_table"),
    ],
)
def test_a_budget_is_of_one_kind_and_has_its_unit(values, message):
    with pytest.raises(ValueError, match=message):
        BudgetSettings(**values)


def test_a_budget_is_read_in_the_units_of_the_engine_and_shown_as_it_was_given():
    both = BudgetSettings(average_bits=3.0, size="2.5MB")
    assert (both.bytes, both.bit_operations, both.milliseconds) == (2.5e6, None, None)
    assert str(both) == "3 bits and 2.5MB"
    assert str(BudgetSettings(average_bits=None, bops="12G")) == "12G BOPs"


def test_bit_choices_are_sorted_and_each_listed_once():
    assert QuantizeSettings(choices=(8, 2, 4, 2)).choices == (2, 4, 8)


#: A value out of range for each key that has one.
OUT_OF_RANGE = [
    ("model", "image_size", 8), ("budget", "average_bits", 0), ("budget", "average_bits", 8.5), ("quantize", "choices", [9]),
    ("quantize", "pin", {"a": -1}), ("activations", "bits", 1), ("activations", "first", 9), ("calibration", "images", 0),
    ("calibration", "probe_images", -1), ("train", "epochs", -1), ("train", "batch_size", 0), ("train", "learning_rate", 0),
    ("train", "weight_decay", -1), ("train", "label_smoothing", 1), ("train", "running_group_losses", 1.0),
    ("train", "freeze_bits_after", 0), ("train", "freeze_bits_after", 1.5), ("train", "rounds", 0),
    ("train", "early_stopping", {"patience": 0}), ("train", "checkpoint_minutes", 0), ("train", "learning_rate", float("inf")),
]  # fmt: skip


@pytest.mark.parametrize(("section", "key", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_reported_at_its_key(section, key, value):
    problems: list[tuple[str, str]] = []
    assert build(PLAIN_SECTIONS[section], {key: value}, section, section, problems) is None
    assert [where.split(".")[:2] for where, _ in problems] == [[section, key]]
