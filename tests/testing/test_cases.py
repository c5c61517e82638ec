"""The inputs of the checks are functions of their arguments, and hold what the checks rely on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairquant.testing import cases


def test_every_class_is_frequent_in_every_group_and_groups_differ():
    p = cases.predictions(3)
    counts = np.zeros((3, 4))
    np.add.at(counts, (p.groups, p.labels), 1)
    assert counts.min() >= 40
    accuracy = [(p.predicted == p.labels)[p.groups == group].mean() for group in range(3)]
    assert accuracy[0] < accuracy[1] < accuracy[2]


@pytest.mark.parametrize("make", [cases.predictions, cases.images, cases.step], ids=lambda make: make.__name__)
def test_the_same_seed_is_the_same_case_and_another_one_is_not(make):
    def content(case: object) -> list[float]:
        values = case.logits if hasattr(case, "logits") else case.images
        return torch.as_tensor(values).detach().flatten().tolist()

    assert content(make(5)) == content(make(5))
    assert content(make(5)) != content(make(6))


def test_pinned_units_have_one_choice_and_the_probe_follows_the_bits():
    problem = cases.problem(1, units=12, choices=(2, 4, 8), average=4.0, pinned=3)
    assert problem.allowed[:3].tolist() == [[False, False, True]] * 3
    assert problem.allowed[3:].all()
    few, many = problem.probe(torch.full((12,), 2)), problem.probe(torch.full((12,), 8))
    assert (few > many).all()
    assert problem.probe(torch.full((12,), -1)).tolist() == [1.0] * 3


def test_batches_and_steps_can_be_cut_and_reordered():
    batch = cases.images(2, count=7)
    parts = cases.split_batch(batch, 3)
    assert [len(part.labels) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    order = torch.tensor([6, 0, 3])
    assert torch.equal(cases.reorder_batch(batch, order).images, batch.images[order])
    step = cases.step(2)
    turned = cases.reorder_step(step, torch.arange(8).flip(0))
    assert torch.equal(turned.losses.flip(0), step.losses)
    assert torch.equal(turned.features.flip(0), step.features)


def test_rows_of_weights_differ_in_scale():
    scales = cases.weights(0, 8, 200).square().mean(1).sqrt()
    assert scales.max() > 2 * scales.min()
