"""The model card that goes with every artifact."""

from __future__ import annotations


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
    import yaml

    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "image-classification"
