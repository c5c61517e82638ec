"""The model card that goes with every artifact."""

from __future__ import annotations

import yaml
from helpers.reports import run_report

from fairquant.recipe import read_recipe
from fairquant.report.card import model_card


def test_a_card_goes_with_every_artifact(quickstart_runs):
    card = (quickstart_runs[0] / "README.md").read_text()
    for text in (
        "library_name: fairquant",
        "## Intended use",
        "## Audit on test images",
        "## What compression changed, for whom",
        "DEMO",
    ):
        assert text in card

    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "image-classification"


def test_the_card_claims_no_more_than_the_audit(registry):
    card = model_card(
        read_recipe("quickstart", ["train.epochs=3"], registry=registry),
        run_report(),
        ["One sentence."],
        ["12 images were dropped."],
    )
    assert yaml.safe_load(card.split("---")[1])["datasets"] == ["synthetic-lesions"]
    for text in (
        "One sentence.", "| dark | 20 | 8 | 7 |", "| accuracy | 0.800 [0.700, 0.900] | 0.750 [0.650, 0.850] |",
        "| dark | -0.100 [-0.200, -0.010] | 15.0 % |", "| light | -0.050 [-0.100, +0.020] | unknown % |",
        "- 12 images were dropped.",
        "| FAIL | sensitivity of wart in 'dark' lost 20.0 points (loss 10.0 to 30.0), at most 5.0 allowed |", "It is not a medical device", "budget 3",
    ):  # fmt: skip
        assert text in card, text
    assert "DEMO" not in card


def test_columns_of_a_users_own_table_are_not_named(registry, tmp_path):
    (tmp_path / "t.csv").write_text("image,label,RACECOL\n")
    report, own = run_report(), ["dataset={name: image-table, table: t.csv, attributes: [RACECOL]}"]
    report["dataset"]["attributes"] = ["RACECOL"]
    assert "RACECOL" not in model_card(read_recipe("quickstart", own, registry=registry), report, [], [])
    assert "groups by RACECOL" in model_card(read_recipe("quickstart", registry=registry), report, [], [])


def test_an_untrained_model_is_not_said_to_be_trained(registry):
    recipe = read_recipe("quickstart", ["method=uniform-4-ptq"], registry=registry, demo=True)
    card = model_card(recipe, run_report(), [], [])
    assert "not trained after quantization" in card
    assert "DEMO" in card
    assert "- None were noted during the run." in card
