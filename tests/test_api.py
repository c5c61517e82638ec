"""fairquant.run and fairquant.quantize."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import Triples
from helpers.recipes import write_recipe

import fairquant
from fairquant.errors import RunBusy, UserError
from fairquant.files import folder_lock, is_locked
from fairquant.runs.folder import Quiet


def test_a_finished_run_is_shown_not_run_again(finished):
    again = fairquant.run(finished.folder / "recipe.yaml", runs="elsewhere")
    assert not again.was_finished  # another runs folder: a fresh run
    assert fairquant.run(finished.folder / "recipe.yaml", runs="elsewhere").was_finished


def test_a_busy_run_is_refused(finished):
    with folder_lock(Path("runs/tiny") / finished.folder.name, blocking=False):
        (Path("tiny.yaml")).write_text((finished.folder / "recipe.yaml").read_text())
        with pytest.raises(RunBusy, match="another process is working on this run"):
            fairquant.run("tiny.yaml")


def test_a_run_that_another_process_works_on_is_waited_for():
    code = f"import fairquant; fairquant.run({write_recipe()!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    other = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        deadline = time.monotonic() + 120
        while not any(map(is_locked, Path("runs").glob("tiny/*/"))):
            assert other.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        said: list[str] = []
        display = Quiet()
        display.say = said.append  # type: ignore[method-assign]
        result = fairquant.run("tiny.yaml", wait=True, display=display)
    finally:
        status = other.wait(120)
    assert status == 0
    assert result.was_finished
    assert [text for text in said if text.startswith("waiting for another process that works on runs/tiny/")]


def test_a_full_disk_is_reported_and_loses_nothing(monkeypatch):
    import fairquant.files as files

    write_recipe()
    real = files.os.fsync

    def full(descriptor):
        if any(Path("runs").glob("baselines/*/model.safetensors")):
            raise OSError(28, "No space left on device", "runs/tiny")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device. The run can be resumed"):
        fairquant.run("tiny.yaml")
    assert not list(Path("runs").rglob("*.tmp"))
    monkeypatch.setattr(files.os, "fsync", real)
    assert fairquant.run("tiny.yaml").report["bits"]["average"] <= 2.5


def test_a_strange_module_goes_through_quantize_save_and_load(strange):
    before = {name: value.clone() for name, value in strange.state_dict().items()}
    test = Triples(40, 3, classes=3)
    result = fairquant.quantize(
        strange, Triples(80, 1, classes=3), Triples(40, 2, classes=3), test, average_bits=3,
        overrides=["train.epochs=2", "tracking.mlflow=null"], group_names=["young", "old"],
    )  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in strange.state_dict().items())
    assert result.report["bits"]["average"] <= 3
    assert set(result.report["metrics"]["accuracy"]["by_group"]) == {"young", "old"}
    fresh = type(strange)()
    loaded = result.load(fresh)
    with torch.no_grad():
        logits = loaded(torch.stack([test[i][0] for i in range(40)]))
    assert np.array_equal(logits.numpy(), np.load(result.folder / "predictions.npz")["logits"])


def test_quantize_says_that_outputs_are_probabilities(small):
    with pytest.warns(UserWarning, match="the model's outputs are probabilities"):
        fairquant.quantize(
            torch.nn.Sequential(small, torch.nn.Softmax(1)), Triples(40, 0), Triples(40, 1), average_bits=4,
            method="fq-qat-ptq", overrides=["tracking.mlflow=null"],
        )  # fmt: skip


def test_quantize_explains_wrong_data(small):
    with pytest.raises(UserError, match=r"train: every item must be .image, label, group."):
        fairquant.quantize(small, [(torch.zeros(3, 8, 8), 0)], Triples(4, 0))
    with pytest.raises(UserError, match="class_names: 1 names, but there are 2 classes"):
        fairquant.quantize(small, Triples(20, 0), Triples(20, 1), class_names=["only"])


def _trained_by_nobody() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 3),
    )


UNLABELLED = ["tracking.mlflow=null", "calibration.images=40"]


@pytest.mark.parametrize("method", [None, "fq-block-rounding-ptq", "gptq-ptq"])
def test_a_model_is_quantized_with_unlabelled_images(method):
    """Labels are its own answers: accuracy is agreement, no limit is judged, and that is said."""
    model = _trained_by_nobody()
    images = [Triples(40, 0)[row][0] for row in range(40)]
    with pytest.warns(UserWarning, match="labels are the full-precision model's own answers"):
        result = fairquant.quantize(model, calibration=images, average_bits=3, method=method, overrides=UNLABELLED)
    report = result.report
    assert report["method"] == (method or "fq-gptq-ptq")
    assert report["baseline"]["metrics"]["accuracy"]["value"] == 1.0
    small, stack = fairquant.load(result.folder / "model.safetensors", model=_trained_by_nobody()), torch.stack(images)
    with torch.no_grad():
        agreement = float((small(stack).argmax(1) == model.eval()(stack).argmax(1)).float().mean())
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(agreement)
    assert report["accept"] == {"answer": "CANNOT TELL", "limits": []}
    assert "own answers" in (result.folder / "report.html").read_text()
    assert report["bits"]["average"] <= 3
    assert report["dataset"]["labels"] == "the model's own answers"
    card = (result.folder / "README.md").read_text()
    for text in (card, (result.folder / "report.html").read_text()):
        assert "Accuracy here is agreement with the full-precision model" in text
        assert "with 40 calibration images and no labels: 2 of 2 layers with error compensation" in text
    assert "no labelled images were given" in card
    rounding = report["rounding"]
    assert (rounding["images"], rounding["layers"], rounding["compensated"]) == (40, 2, 2)
    assert sum(rounding["blocks"].values()) == (method == "fq-block-rounding-ptq")
    if method != "gptq-ptq":
        assert not report["fallback"]["unseen"]
        assert "40 calibration images (those that the plan was made with): plan" in card


def test_unlabelled_images_come_in_any_container():
    """A list, a tensor, a data set of one-tuples, a loader of batches, a generator: the same images give the same model."""
    images = [Triples(12, 0)[row][0] for row in range(12)]
    stack = torch.stack(images)
    loader = torch.utils.data.DataLoader(stack, batch_size=5)
    tuples = torch.utils.data.TensorDataset(stack)
    containers = [
        images,
        stack,
        loader,
        tuples,
        torch.utils.data.DataLoader(tuples, batch_size=5),
        (each for each in images),
        list(stack.split(5)),
    ]
    found = {
        fairquant.quantize(_trained_by_nobody(), calibration=each, average_bits=3, overrides=UNLABELLED).report["artifact"]["sha256"]
        for each in containers
    }  # fmt: skip
    assert len(found) == 1


def test_a_method_that_trains_without_labels_says_on_what():
    images = [Triples(12, 0)[row][0] for row in range(12)]
    result = fairquant.quantize(
        _trained_by_nobody(),
        calibration=images,
        method="fq-baq",
        average_bits=3,
        overrides=[*UNLABELLED, "train.epochs=1"],
    )
    said = "method fq-baq trains on the model's own answers in place of labels; fq-baq-ptq does not train"
    assert said in (result.folder / "log.txt").read_text()


def test_unlabelled_images_may_have_groups_and_labelled_ones_judge_them():
    model, data = _trained_by_nobody(), Triples(40, 0)
    pairs = [(data[row][0], row % 2) for row in range(40)]
    alone = fairquant.quantize(model, calibration=pairs, group_names=["a", "b"], average_bits=3, overrides=UNLABELLED)
    assert set(alone.report["change"]["accuracy"]["by_group"]) == {"a", "b"}
    judged = fairquant.quantize(
        model, None, data, calibration=pairs, average_bits=3, overrides=UNLABELLED, name="judged"
    )
    assert judged.report["accept"]["limits"]
    assert judged.report["metrics"]["accuracy"]["value"] < 1
    assert (judged.folder / "log.txt").read_text().count("own answers") == 1
    both = fairquant.quantize(
        model, data, data, calibration=pairs, average_bits=3, method="fq-gptq-ptq", overrides=UNLABELLED, name="both"
    )
    assert both.report["bits"]["average"] <= 3
    text = (both.folder / "log.txt").read_text()
    assert "own answers" not in text


def test_networks_that_cannot_be_differentiated_or_stored_are_refused_in_words():
    class Off(torch.nn.Sequential):
        @torch.no_grad()
        def forward(self, images):
            return super().forward(images)

    images = [Triples(12, 0)[row][0] for row in range(12)]
    with pytest.raises(UserError, match="importance by gradients: the network's forward pass switches gradients off"):
        fairquant.quantize(Off(*_trained_by_nobody()), calibration=images, overrides=UNLABELLED)
    assert fairquant.quantize(Off(*_trained_by_nobody()), calibration=images, method="gptq-ptq", overrides=UNLABELLED)
    scripted = torch.nn.Sequential(
        torch.jit.script(torch.nn.Conv2d(3, 4, 3)), torch.nn.Flatten(), torch.nn.Linear(784, 3)
    )
    with pytest.raises(UserError, match="'0' is compiled by torch.jit"):
        fairquant.quantize(scripted, calibration=images, overrides=UNLABELLED)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "give train and validation.*Without labels: calibration"),
        ([], "calibration: needs at least one item"),
        ([3, 4], "calibration: item 0 is of int; wanted is an image tensor"),
        ({"a": torch.zeros(3, 8, 8)}, "calibration: item 0 cannot be read: KeyError: 0"),
        ([torch.zeros(3, 8, 8).to_sparse()], "calibration: image 0 is a sparse or a meta tensor"),
        ([(torch.zeros(3, 8, 8), 10**6)], "calibration: groups are numbered up to 1000000, and there are 1"),
        ([(torch.zeros(3, 8, 8), -1)], "^calibration: 1 of 1 groups are negative"),
        ([(torch.zeros(3, 8, 8), "x")], "calibration: every item must be an image or .image, group."),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)], "calibration: image 1 is .3, 9, 9."),
        ([torch.zeros(1, 8, 8)], "the model does not take images"),
        ([torch.full((3, 8, 8), torch.nan)], "calibration: 1 of 1 images are not finite"),
        (3, "calibration: int is no data set: give images"),
        (
            iter([(torch.zeros(4, 3, 8, 8), torch.zeros(4))]),
            "calibration: batch 0 has 2 values: whether the second are labels or groups",
        ),
        (iter([3]), "calibration: item 0 is of int"),
        (
            torch.zeros(3, 8, 8),
            "calibration: a tensor .3, 8, 8., wanted are images .N, 3, H, W.: put the one image into a list",
        ),
        (torch.zeros(2, 2, 3, 8, 8), r"calibration: a tensor .2, 2, 3, 8, 8., wanted are images .N, 3, H, W.$"),
        ((1 // 0 for _ in [1]), "calibration: item 0 cannot be read: ZeroDivisionError"),
    ],
)
def test_unlabelled_images_of_other_forms_are_refused_in_words(calibration, message):
    with pytest.raises(UserError, match=message):
        fairquant.quantize(_trained_by_nobody(), calibration=calibration)


def test_a_network_under_autocast_is_measured():
    class Half(torch.nn.Sequential):
        def forward(self, images):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(images).float()

    images = [Triples(12, 0)[row][0] for row in range(12)]
    report = fairquant.quantize(
        Half(*_trained_by_nobody()), calibration=images, average_bits=3, overrides=UNLABELLED
    ).report
    assert report["bits"]["average"] <= 3


def test_a_network_is_rounded_within_a_context_of_autocast():
    """Until it ends, torch keeps weights that it has cast, also where they have changed since."""
    images = [Triples(12, 0)[row][0] for row in range(12)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = fairquant.quantize(
            _trained_by_nobody(), calibration=images, average_bits=3, overrides=UNLABELLED
        ).report
    assert report["bits"]["average"] <= 3
