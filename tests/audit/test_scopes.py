"""Of whom a number is: all images, groups, and values of single attributes."""

from __future__ import annotations

import numpy as np

from fairquant.audit.scopes import ALL, scopes_of

GROUPS = ("female x old", "female x young", "male x old")


def test_one_attribute_has_all_images_and_its_groups():
    scopes = scopes_of(("dark", "light"), ["skin"])
    assert scopes.names == (ALL, "dark", "light")
    assert scopes.kinds == ("all", "group", "group")
    assert np.array_equal(scopes.total(np.array([[3.0], [4.0]])), [[7.0], [3.0], [4.0]])


def test_intersections_also_have_each_value_of_each_attribute():
    scopes = scopes_of(GROUPS, ["sex", "age"])
    assert scopes.names[4:] == ("sex: female", "sex: male", "age: old", "age: young")
    assert scopes.kinds[4:] == ("attribute",) * 4
    counts = np.array([1.0, 10.0, 100.0])
    assert scopes.total(counts).tolist() == [111.0, 1.0, 10.0, 100.0, 11.0, 100.0, 101.0, 10.0]


def test_names_that_are_no_intersections_are_left_as_they_are():
    assert scopes_of(("a", "b x c"), ["sex", "age"]).kinds == ("all", "group", "group")
    assert scopes_of(GROUPS).kinds == ("all", "group", "group", "group")
