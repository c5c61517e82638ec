"""A folder holds one content: another one goes to another folder, and what changed is said."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import fairquant
from fairquant.runs.folder import Quiet
from fairquant.runs.identity import read_identity, source_digest, what_changed


@pytest.fixture
def recipe():
    """A recipe on a table of 40 images, which takes a second."""
    draw, rows = np.random.default_rng(0), ["file,label,sex"]
    for number in range(40):
        pixels = draw.integers(0, 200, (32, 32, 3)).astype(np.uint8)
        pixels[8:20, 8:20, number % 2] = 255
        Image.fromarray(pixels).save(f"{number}.png")
        rows.append(f"{number}.png,{('light', 'dark')[number % 2]},{'mf'[number // 2 % 2]}")
    Path("t.csv").write_text("\n".join(rows) + "\n")
    section = {"name": "image-table", "table": "t.csv", "image": "file", "label": "label", "attributes": ["sex"]}
    content = {
        "dataset": section, "model": {"name": "test_resnet", "image_size": 32}, "method": "uniform-4", "budget": {"average_bits": 4},
        "baseline": {"epochs": 0}, "train": {"post_training": True}, "calibration": {"images": 8}, "tracking": {"mlflow": None},
    }  # fmt: skip
    Path("r.yaml").write_text(yaml.safe_dump(content))
    return "r.yaml"


class Heard(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def change_labels() -> None:
    Path("t.csv").write_text(Path("t.csv").read_text().replace("0.png,light", "0.png,dark"))


def remove_rows() -> None:
    Path("t.csv").write_text("\n".join(Path("t.csv").read_text().splitlines()[:-10]) + "\n")


def rename_class() -> None:
    Path("t.csv").write_text(Path("t.csv").read_text().replace("dark", "naevus"))


def other_image() -> None:
    Image.new("RGB", (32, 32), "white").save("3.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_labels, "labels, groups or splits"), (remove_rows, r"labels, groups or splits \(24\+8\+8 images, now 18\+6\+6\)"),
        (rename_class, "the names of the classes"), (other_image, "the image files"),
    ],
)  # fmt: skip
def test_other_content_goes_to_another_folder_and_the_old_one_is_kept(change, words, recipe):
    first = fairquant.run(recipe)
    table = Path("t.csv").read_text()
    assert fairquant.run(recipe).was_finished
    change()
    display = Heard()
    second = fairquant.run(recipe, display=display)
    assert not second.was_finished
    assert second.folder != first.folder
    (said,) = [text for text in display.said if "holds a run of other content" in text]
    assert re.search(words, said)
    assert fairquant.run(recipe).folder == second.folder
    if change is not other_image:
        Path("t.csv").write_text(table)
        assert fairquant.run(recipe).folder == first.folder  # the content of before


def test_a_folder_of_a_second_content_is_checked_as_well(recipe):
    fairquant.run(recipe)
    folders = []
    for _ in range(2):
        change_labels() if not folders else remove_rows()
        folders.append(fairquant.run(recipe).folder)
    folders[0].rename("between")
    folders[1].rename(folders[0])
    Path("between").rename(folders[1])
    found = fairquant.run(recipe)
    assert not found.was_finished
    assert found.folder not in folders


def test_a_finished_run_without_its_file_or_with_another_runs_report_is_done_again(recipe):
    first = fairquant.run(recipe)
    expected = (first.folder / "model.safetensors").read_bytes()
    other = fairquant.run(recipe, "seed=1").folder
    damages = (
        (lambda: (first.folder / "model.safetensors").unlink(), "model.safetensors is gone"),
        (lambda: (first.folder / "model.safetensors").write_bytes(b"x"), "is not the file that its report is about"),
        (lambda: [(first.folder / name).write_bytes((other / name).read_bytes()) for name in ("report.json", "model.safetensors")], "its report is of another run"),
    )  # fmt: skip
    for damage, words in damages:
        damage()
        display = Heard()
        again = fairquant.run(recipe, display=display)
        assert not again.was_finished
        assert any(words in text for text in display.said)
        assert again.folder == first.folder
        assert (first.folder / "model.safetensors").read_bytes() == expected
        assert fairquant.run(recipe).was_finished


def test_other_weights_under_the_same_name_are_another_run(recipe):
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("test_resnet", num_classes=2).state_dict()
    save_file(state, "w.safetensors")
    first = fairquant.run(recipe, "model.weights=w.safetensors")
    save_file(
        {name: value * 1.5 if value.is_floating_point() else value for name, value in state.items()}, "w.safetensors"
    )
    display = Heard()
    assert fairquant.run(recipe, "model.weights=w.safetensors", display=display).folder != first.folder
    assert any("the file model.weights" in text for text in display.said)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_that_does_not_say_what_it_is_for_is_not_resumed(content, recipe):
    first = fairquant.run(recipe).folder
    if content is None:
        (first / "identity.json").unlink()
    else:
        (first / "identity.json").write_text(content)
    display = Heard()
    second = fairquant.run(recipe, display=display)
    assert second.folder != first and not second.was_finished
    assert any("it does not say what its data were" in text for text in display.said)


def test_an_edited_plugin_is_another_one(tmp_path, monkeypatch):
    package = tmp_path / "their_metrics"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "metric.py").write_text("SCALE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("their_metrics")
    before = source_digest("their_metrics")
    assert before == source_digest("their_metrics")
    (package / "metric.py").write_text("SCALE = 2\n")
    assert source_digest("their_metrics") != before
    assert source_digest("no_such_package") == ""
    sys.modules.pop("their_metrics")
    words = what_changed({"plugin theirs": "1.0 a"}, {"plugin theirs": "1.0 b"})
    assert words == "the source of plugin theirs"
    assert what_changed({"plugin theirs": "1.0 a"}, {"plugin theirs": "1.1 b"}) == "plugin theirs (1.0, now 1.1)"


def test_the_identity_names_digests_and_no_place(recipe):
    identity = read_identity(fairquant.run(recipe).folder)
    assert {"recipe", "images", "table", "classes", "groups"} <= set(identity)
    assert str(Path.cwd()) not in json.dumps(dict(identity))


def test_what_ships_names_no_file_no_column_and_no_place(recipe):
    Path("diagnosis.csv").write_text(Path("t.csv").read_text().replace("file,label,sex", "photo_of,diagnosis_of,sex"))
    options = {"name": "image-table", "table": str(Path("diagnosis.csv").absolute()), "image": "photo_of", "label": "diagnosis_of",
               "attributes": ["sex"]}  # fmt: skip
    folder = fairquant.run(recipe, f"dataset={json.dumps(options)}", "tracking.experiment=secret-project").folder
    for name in ("model.safetensors", "README.md"):
        content = (folder / name).read_bytes()
        for hidden in (str(Path.cwd()), "diagnosis", "photo_of", "secret-project", "17.png"):
            assert hidden.encode() not in content, (name, hidden)
