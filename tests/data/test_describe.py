"""The data as read, in words."""

from __future__ import annotations

from dataclasses import replace

from fairquant_datasets.image_table import ImageTable
from helpers.data_sets import context, own

from fairquant.data.describe import cells, cells_text, leaks
from fairquant.recipe import recipe_from


def splits(tmp_path, **options):
    dataset = ImageTable(
        table=str(own(tmp_path / "d")), image="file", label="diagnosis", attributes=("site",), **options
    )
    return dataset.load(context(tmp_path))


def test_every_class_in_every_group_is_counted_over_all_splits(tmp_path):
    read = splits(tmp_path)
    assert cells(read).tolist() == [[15, 15], [15, 15]]
    assert cells_text(read).splitlines() == [
        "60 images (36 + 12 + 12 in train, validation, test), by site:",
        "         A   B  all", "  ill   15  15   30", "  well  15  15   30", "  all   30  30   60",
    ]  # fmt: skip


def test_of_many_groups_the_smallest_are_named(tmp_path):
    read = splits(tmp_path)
    many = replace(read, group_names=tuple("ABCDEFGHI"))
    assert "2 classes in 9 groups; fewest images: class 'ill' (30), and 0 of 'ill' in 'C'" in cells_text(many)


def test_own_weights_on_drawn_splits_are_a_leak(tmp_path, registry):
    recipe = recipe_from(
        {"dataset": {"name": "synthetic-lesions"}, "model": {"weights": "mine.safetensors"}}, registry=registry
    )
    assert "may have been trained on images that are test images here" in leaks(recipe, splits(tmp_path))[0]
    assert leaks(recipe, splits(tmp_path, split="part")) == []
    assert leaks(recipe_from({"dataset": {"name": "synthetic-lesions"}}, registry=registry), splits(tmp_path)) == []
