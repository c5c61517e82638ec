"""Where and how precisely to compute."""

from __future__ import annotations

import pytest
import torch

from fairquant.errors import UserError
from fairquant.training import devices
from fairquant.training.devices import autocast, choose_device, default_workers


@pytest.fixture
def only_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_the_best_device_there_is(monkeypatch, only_a_cpu):
    assert choose_device("auto").type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cpu").type == "cpu"


def test_a_device_that_this_machine_lacks_is_reported(only_a_cpu):
    with pytest.raises(
        UserError, match="train.device: this machine has no 'cuda'. Available: cpu; 'auto' takes the best"
    ):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("precision", "native", "dtype"),
    [
        ("fp32", True, torch.float32),
        ("bf16", False, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_bf16_is_used_where_asked_for_and_by_auto_where_it_is_native(monkeypatch, precision, native, dtype):
    monkeypatch.setattr(devices, "computes_bf16", lambda device: native)
    with autocast(torch.device("cpu"), precision):
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


def test_a_cpu_decodes_in_its_own_process():
    assert default_workers(torch.device("cpu")) == 0
    assert default_workers(torch.device("cuda")) >= 1
