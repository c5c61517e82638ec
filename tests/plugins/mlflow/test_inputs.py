"""The data set is an input of the run, with its digest, schema and counts."""

from __future__ import annotations

import json

from fairquant_mlflow.inputs import LONGEST_DIGEST


def test_the_data_set_is_an_input_with_its_digest_and_counts(tracked):
    (given,) = tracked.run.inputs.dataset_inputs
    report = tracked.report["dataset"]
    assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "training and audit"}
    assert given.dataset.name == "synthetic-lesions"
    assert len(report["fingerprint"]) > LONGEST_DIGEST
    assert given.dataset.digest == report["fingerprint"][:LONGEST_DIGEST]
    assert json.loads(given.dataset.source)["images"] == 240
    profile = json.loads(given.dataset.profile)
    assert profile["num_rows"] == 240
    assert profile["classes"] == report["classes"]
    assert profile["groups"] == report["counts"]["groups"]
    features = json.loads(json.loads(given.dataset.schema)["mlflow_tensorspec"]["features"])
    assert features[0]["tensor-spec"] == {"dtype": "uint8", "shape": [-1, 32, 32, 3]}


def test_runs_are_found_by_their_data_set(tracked):
    experiments = [tracked.run.info.experiment_id]
    digest = tracked.report["dataset"]["fingerprint"][:LONGEST_DIGEST]
    assert len(tracked.client.search_runs(experiments, f"dataset.digest = '{digest}'")) == 1
    assert not tracked.client.search_runs(experiments, "dataset.digest = 'another'")
