"""Checkpoints hold tensors and numbers, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import torch

from fairquant.training.checkpoints import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


def test_a_checkpoint_comes_back_as_it_was():
    content = {"model": {"weight": torch.randn(3)}, "history": [{"loss": 0.5}], "epoch": 2, "best": [0.1, -1]}
    save_checkpoint(Path("a/train.pt"), content)
    loaded = load_checkpoint(Path("a/train.pt"), CPU)
    assert torch.equal(loaded["model"].pop("weight"), content["model"].pop("weight"))
    assert loaded == content


def test_there_is_none_where_none_was_saved():
    assert load_checkpoint(Path("none.pt"), CPU) is None


def test_a_damaged_checkpoint_is_put_aside_and_training_starts_anew():
    save_checkpoint(Path("train.pt"), {"epoch": 2})
    Path("train.pt").write_bytes(Path("train.pt").read_bytes()[:100])
    assert load_checkpoint(Path("train.pt"), CPU) is None
    assert [file.name for file in Path().iterdir()] == ["train.broken"]


class Evil:
    def __reduce__(self):
        return (Path("ran").touch, ())


def test_no_code_in_a_checkpoint_is_run():
    torch.save({"model": Evil()}, "train.pt")
    assert load_checkpoint(Path("train.pt"), CPU) is None
    assert not Path("ran").exists()
