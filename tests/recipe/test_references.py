"""References between keys: resolved after merging, refused where they call a resolver, reported where they lead nowhere."""

from __future__ import annotations

import pytest
import yaml

from fairquant.errors import UserError
from fairquant.recipe import read_recipe


def write(path, **sections):
    path.write_text(yaml.safe_dump({"dataset": {"name": "synthetic-lesions"}, **sections}))


def test_a_value_may_refer_to_another_key(tmp_path, registry):
    write(tmp_path / "r.yaml", train={"epochs": 7, "batch_size": "${baseline.batch_size}"}, baseline={"batch_size": 24})
    assert read_recipe("r.yaml", registry=registry).train.batch_size == 24
    assert read_recipe("r.yaml", ["baseline.batch_size=48"], registry=registry).train.batch_size == 48


def test_a_value_may_refer_to_a_default(tmp_path, registry):
    write(tmp_path / "r.yaml", calibration={"images": "${train.batch_size}"})
    recipe = read_recipe("r.yaml", registry=registry)
    assert recipe.calibration.images == recipe.train.batch_size


def test_a_reference_to_nothing_is_reported_at_its_key(tmp_path, registry):
    write(tmp_path / "r.yaml", train={"epochs": "${baseline.epoch}"})
    with pytest.raises(UserError, match="r.yaml:[0-9]+: train.epochs: .*baseline.epoch"):
        read_recipe("r.yaml", registry=registry)


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "a ${oc.env:HOME} b", "${oc.create:{a: 1}}"])
def test_resolvers_are_refused_wherever_they_stand(tmp_path, registry, value):
    write(tmp_path / "r.yaml", metrics=["accuracy", {"name": value}], tracking={"mlflow": value})
    with pytest.raises(UserError) as caught:
        read_recipe("r.yaml", registry=registry)
    assert len(caught.value.problems) == 2
    assert all("calls a resolver, which recipes do not allow" in problem for problem in caught.value.problems)
    with pytest.raises(UserError, match="command line: tracking.mlflow: .* calls a resolver"):
        read_recipe("quickstart", ["tracking.mlflow=${oc.env:HOME}"], registry=registry)


@pytest.mark.parametrize("value", ["${}", "a ${ b"])
def test_a_malformed_reference_is_reported_at_its_key_with_the_way_to_write_the_characters(tmp_path, registry, value):
    write(tmp_path / "r.yaml", tracking={"experiment": value})
    with pytest.raises(UserError, match=r"r.yaml:[0-9]+: tracking.experiment: .* is no reference to a key, .* write"):
        read_recipe("r.yaml", registry=registry)


def test_the_characters_themselves_can_be_written(tmp_path, registry):
    write(tmp_path / "r.yaml", tracking={"experiment": r"costs \${5}"})
    assert read_recipe("r.yaml", registry=registry).tracking.experiment == "costs ${5}"


def test_one_mistake_is_one_line(tmp_path, registry):
    write(tmp_path / "r.yaml", seed="${train.epochs}", train={"epochs": "${train.epoch}"})
    with pytest.raises(UserError) as caught:
        read_recipe("r.yaml", registry=registry)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["seed", "train.epochs"]
    write(tmp_path / "r.yaml", method="${foo.bar}")
    with pytest.raises(UserError) as caught:
        read_recipe("r.yaml", registry=registry)
    assert len(caught.value.problems) == 1
    assert "method: must be written out" in caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("baseline: []", "baseline: expected a mapping, got []"),
        ("quantizer: [uniform]", "quantizer: expected a name with options"),
        ("metrics: {accuracy: 3}", "metrics: expected a list, got"),
        ("seed: 2026-01-01", "seed: expected a whole number"),
        ("seed: '???'", "seed: expected a whole number from 0 to 4294967280, got '???'"),
        ("quantize: {pin: {null: 4}}", "quantize.pin.None.[key]: expected text, got None"),
    ],
)
@pytest.mark.parametrize("reference", ["", "calibration: {images: '${train.batch_size}'}\n"])
def test_values_that_omegaconf_cannot_hold_are_reported_at_their_key(tmp_path, registry, text, problem, reference):
    (tmp_path / "r.yaml").write_text(f"dataset: {{name: synthetic-lesions}}\n{reference}{text}\n")
    with pytest.raises(UserError) as caught:
        read_recipe("r.yaml", registry=registry)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]
    assert f"r.yaml:{3 if reference else 2}: " in caught.value.problems[0]
