"""Writing the file: the same bytes for the same model, metadata that can be read alone."""

from __future__ import annotations

import copy
import json

import torch
from fairquant_paper.uniform import Uniform
from helpers.artifacts import saved


def test_the_same_model_gives_the_same_bytes(tmp_path, strange):
    other = copy.deepcopy(strange)
    path, _, facts = saved(tmp_path, strange, Uniform())
    first = path.read_bytes()
    _, _, again = saved(tmp_path, other, Uniform())
    assert path.read_bytes() == first
    assert facts == again


def test_metadata_is_readable_without_the_model(tmp_path, strange):
    from safetensors import safe_open

    path, _, _ = saved(tmp_path, strange, Uniform())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["a", "b", "c"]
        assert file.get_tensor("stem.weight").dtype == torch.uint8
