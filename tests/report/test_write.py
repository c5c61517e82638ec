"""What lies in the folder of a finished run."""

from __future__ import annotations


def test_the_folder_holds_what_the_design_promises(finished):
    names = {file.name for file in finished.folder.iterdir()}
    assert names >= {
        "recipe.yaml", "report.json", "report.html", "bit_plan.csv", "predictions.npz", "validation.npz", "model.safetensors", "log.txt", "checkpoints",
    }  # fmt: skip
    assert finished.folder.name.startswith("fq-baq-seed1-")
    assert finished.folder.parent.name == "tiny"
