"""What values mean: unknown spellings, declared names, bins, labels that are blank or uncertain."""

from __future__ import annotations

import pytest
from fairquant_datasets.values import (
    UNKNOWN,
    AttributeValues,
    LabelValues,
    as_number,
    attribute_values,
    bin_names,
    canonical,
    label_values,
    one_hot,
)

SPELLINGS = ["Unknown", "UNK", "NaN", "N/A", "None", "null", "-1", "-1.0", "Not reported", "", " ? "]


def attribute(values, unknown=UNKNOWN, **declared):
    return attribute_values("sex", values, AttributeValues(**declared), unknown)


def label(values, **declared):
    return label_values(values, LabelValues(column="Edema", **declared), UNKNOWN)


def test_every_spelling_of_unknown_is_no_group_and_is_said():
    groups, notes, problems = attribute([*SPELLINGS, "f", "m"])
    assert groups == [""] * len(SPELLINGS) + ["f", "m"]
    assert problems == []
    assert "read as unknown: " in notes[0]
    assert "'-1.0' (1)" in notes[0]


def test_all_unknown_blames_the_attribute():
    _, _, problems = attribute(["", "UNK", "UNK"])
    assert problems == ["attribute 'sex': all 3 values are unknown ('UNK' (2), blank (1))"]


def test_a_map_names_every_value_that_is_known():
    groups, _, problems = attribute(
        ["M", "0.0", "female", "9", "-1"], map={"M": "male", 0: "female", -1: "other"}, unknown=(9,)
    )
    assert (groups, problems) == (["male", "female", "female", "", "other"], [])
    _, _, problems = attribute(["M", "W", "W"], map={"M": "male"})
    assert problems == ["attribute 'sex': values that its map does not name: 'W' (2). Name them in map or in unknown"]


def test_null_in_a_map_is_unknown_and_a_class_null_is_left_out():
    groups, notes, problems = attribute(["M", "Other", "M"], map={"M": "male", "Other": None})
    assert (groups, problems) == (["male", "", "male"], [])
    assert notes == ["attribute 'sex': read as unknown: 'Other' (1)"]
    groups, _, problems = attribute(["M", "Other"], map={"Other": None})  # nothing is named: others stay as they are
    assert (groups, problems) == (["M", ""], [])
    classes, notes, problems = label(["1", "0", "-1"], map={1: "yes", 0: "no", -1: None})
    assert (classes, problems) == (["yes", "no", ""], [])
    assert notes == ["label 'Edema': rows left out as drop says: '-1' (1)"]


def test_numbers_fall_into_bins_also_with_a_decimal_comma():
    groups, _, problems = attribute(["39,5", "40", "59.9", "60", "", "90+"], bins=(40, 60), map={"90+": "60 and over"})
    assert problems == []
    assert groups == ["under 40", "40 to under 60", "40 to under 60", "60 and over", "", "60 and over"]
    assert bin_names((40, 60)) == ["under 40", "40 to under 60", "60 and over"]
    _, _, problems = attribute(["39", "old"], bins=(40,))
    assert problems == ["attribute 'sex': values that are no numbers: 'old' (1). Name them in map or in unknown"]
    with pytest.raises(ValueError, match="ascending order"):
        AttributeValues(bins=(60, 40))


def test_a_measurement_is_no_attribute_without_bins():
    _, _, problems = attribute([str(20 + age) for age in range(33)])
    assert problems == [
        "attribute 'sex': 33 different numbers, from 20 to 52, are no groups. Give edges: attributes: {sex: {bins: [36]}}"
    ]
    assert attribute([str(skin) for skin in range(1, 7)])[2] == []


def test_names_that_differ_in_case_only_are_said():
    _, notes, _ = attribute(["Male", "male", "f"])
    assert notes == [
        "attribute 'sex': 'Male' (1), 'male' (1) differ in case or form only and are separate groups: give them one name in its map"
    ]


CHEXPERT = ["1.0", "", "", "0.0", "-1.0", ""]


def test_an_uncertain_label_must_be_explained():
    _, _, problems = label(CHEXPERT)
    assert problems == [
        "label 'Edema': -1 (1 rows) may mean uncertain or unknown. Say what it means: label: {column: Edema, map: {-1: CLASS, ...}}, "
        "or drop: [-1]. Blank labels (3 rows) are left out unless blank: CLASS says what they mean"
    ]


@pytest.mark.parametrize(("uncertain", "last"), [({}, ""), ({-1: "yes"}, "yes"), ({-1: "no"}, "no")])
def test_chexperts_blank_0_1_and_minus_1(uncertain, last):
    how = {"map": {1: "yes", 0: "no", **uncertain}, "blank": "no", "drop": () if uncertain else (-1,)}
    classes, notes, problems = label(CHEXPERT, **how)
    assert (classes, problems) == (["yes", "no", "no", "no", last, "no"], [])
    assert notes == ([] if uncertain else ["label 'Edema': rows left out as drop says: '-1.0' (1)"])


def test_blank_labels_are_left_out_with_a_word_and_none_is_a_class():
    classes, notes, _ = label(["None", "MEL", "", "unknown"])
    assert classes == ["None", "MEL", "", ""]
    assert notes == [
        "label 'Edema': rows without a label left out: blank (1), 'unknown' (1). If blank means a class: label: {column: Edema, blank: CLASS}"
    ]
    _, _, problems = label(["MEL", "NV"], map={"MEL": "malignant"})
    assert problems == ["label 'Edema': values that its map does not name: 'NV' (1). Name them in map or in drop"]


def test_one_of_several_columns_is_marked():
    columns = {"MEL": ["1.0", "0", "", "1", "x"], "NV": ["0", "1", "0", "1", "0"]}
    labels, notes, problems = one_hot(columns, [f"t.csv:{line}" for line in range(2, 7)])
    assert labels[:4] == ["MEL", "NV", "", ""]
    assert problems == ["t.csv:6: MEL='x': label_columns hold 1 and 0, or true and false"]
    assert any("several of label_columns are marked" in note for note in notes)


def test_blank_gives_a_class_to_blanks_only_and_not_to_unknown_labels():
    classes, notes, _ = label(["1", "", "NaN", "unknown", "UNK"], map={1: "yes"}, blank="no")
    assert classes == ["yes", "no", "no", "", ""]
    assert notes == ["label 'Edema': rows without a label left out: 'UNK' (1), 'unknown' (1)"]


def test_keys_that_differ_in_case_are_told_apart_and_unused_ones_said():
    classes, _, problems = label(["N", "n", "M"], map={"N": "normal", "n": "nevus", "M": "mel"})
    assert (classes, problems) == (["normal", "nevus", "mel"], [])
    _, notes, _ = label(["a", "b"], drop=(False,))
    assert notes == ["label 'Edema': drop names values that occur in no row: False"]


def test_numbers_that_may_be_thousands_or_are_not_finite_are_no_numbers():
    _, _, problems = attribute(["1,200", "7"], bins=(500,))
    assert problems == ["attribute 'sex': values that are no numbers: '1,200' (1). Name them in map or in unknown"]
    assert "no numbers: '-nan' (1), 'inf' (1)" in attribute(["-nan", "inf", "7"], bins=(5,))[2][0]
    assert attribute(["90+", "90", "7"], map={"90+": 90}, bins=(40, 60))[0] == [
        "60 and over",
        "60 and over",
        "under 40",
    ]
    assert len(set(bin_names((20200201, 20200210, 20200220)))) == 4


@pytest.mark.parametrize("value", ["-1", "2", "0.6", "nan"])
def test_label_columns_hold_1_and_0_only(value):
    _, _, problems = one_hot({"A": ["1", "0"], "B": [value, "1"]}, ["t.csv:2", "t.csv:3"])
    assert problems == [f"t.csv:2: B={value!r}: label_columns hold 1 and 0, or true and false"]


def test_columns_may_hold_the_truth_values_of_other_programs():
    columns = {"MEL": ["True", "false", "FALSE"], "NV": ["False", "true", "False"]}
    labels, notes, problems = one_hot(columns, ["t.csv:2", "t.csv:3", "t.csv:4"])
    assert (labels, problems) == (["MEL", "NV", ""], [])
    assert notes == ["1 row(s) left out: none of label_columns is marked"]


def test_equal_values_have_one_spelling_and_no_others():
    for same in (
        ["1", "1.0", "01", " 1 ", "1,00", 1, 1.0, "1.000", "+1"],
        ["NaN", "nan"],
        ["True", True],
        ["0.5", ".5", "0,50", 0.5],
    ):
        assert len({canonical(each) for each in same}) == 1, same
    different = [
        "12_3",
        "1_23",
        "123",
        "3e2",
        "300",
        "9007199254740993",
        "9007199254740992",
        "1,200",
        "1.2",
        "12345678901234567890",
    ]
    assert len({canonical(each) for each in different}) == len(different)
    assert as_number("1_2") is None
