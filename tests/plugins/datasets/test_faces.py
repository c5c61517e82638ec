"""CelebA and FairFace in their real layouts, with pictures of noise."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairquant_datasets.faces import CelebA, FairFace
from helpers.data_sets import context, picture, table

from fairquant.errors import UserError

TRAITS = ("Male", "Smiling", "Young")


def celeba(root: Path, kaggle: bool = False) -> Path:
    """60 faces of 30 people; the attributes are the bits of the number."""
    names = [f"{number + 1:06d}.jpg" for number in range(60)]
    folder = root / "img_align_celeba" / ("img_align_celeba" if kaggle else "")
    for number, name in enumerate(names):
        picture(folder / name, number)
    values = [[1 if number >> bit & 1 else -1 for bit in range(3)] for number in range(60)]
    parts = [0 if number < 40 else 1 if number < 50 else 2 for number in range(60)]
    if kaggle:
        rows = [
            {"image_id": name, **dict(zip(TRAITS, each, strict=True))} for name, each in zip(names, values, strict=True)
        ]
        table(root / "list_attr_celeba.csv", rows)
        table(
            root / "list_eval_partition.csv",
            [{"image_id": n, "partition": p} for n, p in zip(names, parts, strict=True)],
        )
        return root
    lines = [f"{name}  {'  '.join(map(str, each))}" for name, each in zip(names, values, strict=True)]
    (root / "list_attr_celeba.txt").write_text("\n".join(["60", " ".join(TRAITS), *lines, ""]))
    (root / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True)))
    (root / "identity_CelebA.txt").write_text("".join(f"{n} {row // 2}\n" for row, n in enumerate(names)))
    return root


@pytest.mark.parametrize("kaggle", [False, True], ids=["authors", "kaggle"])
def test_celeba_is_read_as_its_authors_and_as_kaggle_give_it(tmp_path, kaggle):
    dataset = CelebA(root=str(celeba(tmp_path / "d", kaggle)))
    assert dataset.check() == []
    splits = dataset.load(context(tmp_path))
    assert (splits.class_names, splits.group_names) == (("Smiling", "not Smiling"), ("Male", "not Male"))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [40, 10, 10]
    assert splits.notes[0].startswith("the table has 60 rows, published were 202599")
    number = int(splits.test.ids[0].removesuffix(".jpg")) - 1
    assert splits.class_names[splits.test.labels[0]] == ("Smiling" if number & 2 else "not Smiling")
    assert splits.group_names[splits.test.groups[0]] == ("Male" if number & 1 else "not Male")


def test_a_drawn_split_of_celeba_keeps_a_person_on_one_side(tmp_path):
    splits = CelebA(root=str(celeba(tmp_path / "d")), split="random", label="Young").load(context(tmp_path))
    parts = [{(int(name[:6]) - 1) // 2 for name in part.ids} for part in (splits.train, splits.validation, splits.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_what_is_wrong_with_celeba_is_said(tmp_path):
    root = celeba(tmp_path / "d")
    with pytest.raises(
        UserError, match=r"dataset.label: .* has no attribute 'Smile'. Did you mean 'Smiling'\?"
    ) as error:
        CelebA(root=str(root), label="Smile", attribute="Femal").load(context(tmp_path))
    assert len(error.value.problems) == 2
    (root / "list_eval_partition.txt").unlink()
    (problem,) = CelebA(root=str(root)).check()
    assert "lacks list_eval_partition.txt" in problem
    (root / "list_attr_celeba.txt").write_text("60\nMale Smiling\n000001.jpg 1\n")
    with pytest.raises(UserError, match="000001.jpg has 1 values, 2 expected"):
        CelebA(root=str(root), split="random").load(context(tmp_path))


def fairface(root: Path) -> Path:
    for part, count in (("train", 50), ("val", 10)):
        rows = []
        for number in range(count):
            picture(root / part / f"{number + 1}.jpg", number + 100 * (part == "val"))
            rows.append({
                "file": f"{part}/{number + 1}.jpg", "age": ["20-29", "more than 70"][number % 2],
                "gender": ["Male", "Female"][number % 2], "race": ["Black", "White", "Latino_Hispanic"][number % 3],
                "service_test": True,
            })  # fmt: skip
        table(root / f"fairface_label_{part}.csv", rows)
    return root


@pytest.mark.parametrize("below", ["", "fairface-img-margin025-trainval"])
def test_fairface_has_its_official_split(tmp_path, below):
    root = fairface(tmp_path / "d")
    if below:
        (root / below).mkdir()
        for part in ("train", "val"):
            (root / part).rename(root / below / part)
    dataset = FairFace(root=str(root))
    assert dataset.check() == []
    splits = dataset.load(context(tmp_path))
    assert (splits.class_names, splits.group_names) == (("Female", "Male"), ("Black", "Latino_Hispanic", "White"))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [45, 5, 10]
    assert all(name.startswith("val/") for name in splits.test.ids)
    assert len(FairFace(root=str(root), split="random", attribute="age").load(context(tmp_path)).test) == 12


def test_what_is_wrong_with_fairface_is_said(tmp_path):
    with pytest.raises(ValueError, match="attribute: gender is the label already"):
        FairFace(attribute="gender")
    root = fairface(tmp_path / "d")
    (root / "fairface_label_val.csv").unlink()
    (problem,) = FairFace(root=str(root)).check()
    assert "lacks fairface_label_val.csv" in problem


def test_contradictions_and_odd_values_of_celeba_are_named(tmp_path):
    root = celeba(tmp_path / "d")
    with pytest.raises(ValueError, match="attribute: Male is the label already"):
        CelebA(label="Male")
    attributes, parts = root / "list_attr_celeba.txt", root / "list_eval_partition.txt"
    good = attributes.read_text()
    attributes.write_text(good + "000001.jpg 1 1 1\n")
    with pytest.raises(UserError, match="000001.jpg is listed twice, with other values"):
        CelebA(root=str(root)).load(context(tmp_path))
    attributes.write_text(good.replace("000002.jpg  1", "000002.jpg  7"))
    with pytest.raises(UserError, match="list_attr_celeba.txt: 000002.jpg: Male is '7', 1 or -1 expected"):
        CelebA(root=str(root)).load(context(tmp_path))
    attributes.write_text(good)
    parts.write_text(parts.read_text().replace("000001.jpg 0", "000001.jpg train"))
    with pytest.raises(UserError, match=r"partitions train; 0 \(train\), 1 \(validation\) and 2 \(test\) expected"):
        CelebA(root=str(root)).load(context(tmp_path))


def test_blank_and_unknown_values_of_fairface_are_dropped_and_counted(tmp_path):
    root = fairface(tmp_path / "d")
    lines = (root / "fairface_label_train.csv").read_text().splitlines()
    lines[1] = lines[1].replace("Male", "")
    lines[2] = lines[2].replace("White", "unknown")
    (root / "fairface_label_train.csv").write_text("\n".join([*lines, "train/3.jpg,20-29,Female,White,True"]) + "\n")
    with pytest.raises(UserError, match="fairface_label_train.csv:52: train/3.jpg is listed in .*:4 with "):
        FairFace(root=str(root)).load(context(tmp_path))
    (root / "fairface_label_train.csv").write_text("\n".join(lines) + "\n")
    splits = FairFace(root=str(root)).load(context(tmp_path))
    assert splits.class_names == ("Female", "Male")
    assert splits.counts == {"rows": 60, "dropped_unlabelled": 1, "dropped_unknown": 1}
