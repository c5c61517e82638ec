"""A diff as tables of text."""

from __future__ import annotations

from helpers.reports import diff_of, estimate, unpaired

from fairquant.report.comparison import Difference
from fairquant.report.diff import RecipeKey
from fairquant.report.diff_tables import CHANCE, difference, sections, summary
from fairquant.report.diff_tables import estimate as shown


def rows(diff, title: str) -> list[list[str]]:
    return next(section.rows for section in sections(diff) if section.title == title)


def test_every_table_is_there_with_as_many_cells_as_heads():
    for diff in (diff_of(), unpaired()):
        made = sections(diff)
        assert [section.title for section in made] == [
            "A and B", "What differs in the recipes", "Metrics", "Accuracy by group", "Recall by class",
        ]  # fmt: skip
        assert all(len(row) == len(section.head) for section in made for row in section.rows)


def test_a_paired_row_has_both_values_the_difference_and_words():
    assert rows(diff_of(), "Metrics") == [
        ["accuracy ↑", "0.800 [0.700, 0.900]", "0.700 [0.600, 0.800]", "-0.100 [-0.150, -0.050]", "B worse"],
        ["accuracy-gap ↓", "0.200 [0.100, 0.300]", "-", "-", ""],
    ]  # fmt: skip
    assert rows(diff_of(), "Accuracy by group") == [
        ["dark", "12", "0.500 [0.400, 0.600]", "0.600 [0.500, 0.700]", "+0.100 [-0.020, +0.200]", "no difference shown", "3", "1", "2"],
    ]  # fmt: skip


def test_an_unpaired_diff_shows_no_difference_and_both_counts():
    diff = unpaired()
    assert rows(diff, "Metrics")[0] == ["accuracy ↑", "0.800 [0.700, 0.900]", "0.700 [0.600, 0.800]"]
    assert rows(diff, "Accuracy by group") == [["dark", "12, 0", "0.500 [0.400, 0.600]", "-"]]
    assert all(CHANCE not in section.notes for section in sections(diff))
    assert summary(diff) == ["The test images differ."]


def test_the_two_are_named_with_what_is_not_known_as_a_dash():
    cells = {row[0]: row[1:] for row in rows(diff_of(), "A and B")}
    assert cells["bits per weight"] == ["2.500", "-"]
    assert cells["seed"] == ["0", "-"]
    assert cells["answer (accept)"] == ["PASS", "-"]
    assert cells["size"] == ["1.50 MB", "20.0 kB"]


def test_recipes_that_differ_are_shown_by_key_and_equal_ones_said():
    assert rows(diff_of(recipe=(RecipeKey("seed", "1", ""),)), "What differs in the recipes") == [["seed", "1", "-"]]
    assert sections(diff_of(recipe=()))[1].notes == ("Nothing.",)


def test_the_summary_counts_what_changed():
    assert summary(diff_of()) == [
        "Both were tested on the same 40 images: differences are paired.",
        "4 of 40 predictions differ (10.0 %): 1 right in A and wrong in B, 2 wrong in A and right in B.",
    ]


def test_undefined_ends_are_a_dash():
    nan = float("nan")
    assert shown(estimate(0.5, nan, nan)) == "0.500 [-, -]"
    assert difference(Difference(0.5, nan, nan)) == "+0.500 [-, -]"
    assert shown(None) == difference(None) == "-"
