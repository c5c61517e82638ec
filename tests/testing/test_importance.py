"""The checks of role `importance`: for each, a component that is broken in just that way fails just that check."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from helpers.contract import failures, own_checks

from fairquant.roles import GroupImportance


@dataclass(frozen=True)
class Squares:
    """The mean, squared."""

    def reduce(self, importance, group_names):
        return importance.mean(0) ** 2


@dataclass(frozen=True)
class Magnitude:
    """A sound importance that needs no images."""

    def measure(self, model, batches, layers, group_names):
        rows = {layer.name: layer.weight.detach().flatten(1).abs().sum(1) for layer in layers}
        scores = {layer.name: layer.per_unit(rows[layer.name]).repeat(len(group_names), 1) for layer in layers}
        return GroupImportance(scores, group_names)


@dataclass(frozen=True)
class RowsAlways(Magnitude):
    """A score a row, also where the tensor is the unit."""

    def measure(self, model, batches, layers, group_names):
        rows = {layer.name: layer.weight.detach().flatten(1).abs().sum(1) for layer in layers}
        return GroupImportance({name: row.repeat(len(group_names), 1) for name, row in rows.items()}, group_names)


@dataclass(frozen=True)
class LeavesEval(Magnitude):
    """Forgets to switch back."""

    def measure(self, model, batches, layers, group_names):
        model.eval()
        return super().measure(model, batches, layers, group_names)


@dataclass(frozen=True)
class BatchMeans(Magnitude):
    """Squares each batch's mean."""

    def measure(self, model, batches, layers, group_names):
        factor = sum(float(batch.images.mean()) ** 2 for batch in batches)
        measured = super().measure(model, batches, layers, group_names)
        return replace(measured, scores={name: table * factor for name, table in measured.scores.items()})


@dataclass(frozen=True)
class ByNumber(Magnitude):
    """The higher a group's number, the more it counts."""

    def measure(self, model, batches, layers, group_names):
        measured = super().measure(model, batches, layers, group_names)
        factor = torch.arange(1, len(group_names) + 1)[:, None]
        return replace(measured, scores={name: table * factor for name, table in measured.scores.items()})


@dataclass(frozen=True)
class Signed(Magnitude):
    """Measures errors too, with a sign."""

    def group_errors(self, model, batches, layers, group_names, errors):
        return {
            layer.name: layer.per_unit(errors[layer.name].flatten(2).sum(2)).T.repeat(len(group_names), 1, 1)
            for layer in layers
        }


@dataclass(frozen=True)
class ErrorsOfBatches(Signed):
    """Squares them, as often as there are batches."""

    def group_errors(self, model, batches, layers, group_names, errors):
        measured = super().group_errors(model, batches, layers, group_names, errors)
        return {name: table.square() * len(list(batches)) for name, table in measured.items()}


@dataclass(frozen=True)
class OtherTogether(Magnitude):
    """Gives other errors together with the scores."""

    def group_errors(self, model, batches, layers, group_names, errors):
        return {
            layer.name: layer.per_unit(errors[layer.name].flatten(2).square().sum(2)).T.repeat(len(group_names), 1, 1)
            for layer in layers
        }

    def measure_jointly(self, model, batches, layers, group_names, errors):
        scores = self.measure(model, batches, layers, group_names)
        found = self.group_errors(model, batches, layers, group_names, errors)
        return scores, {name: 1.01 * each for name, each in found.items()}


BROKEN = {
    "measured_jointly_is_the_same": OtherTogether(),
    "scores_every_unit_for_every_group": RowsAlways(),
    "leaves_the_model_as_it_was": LeavesEval(),
    "batches_do_not_matter": BatchMeans(),
    "scores_follow_their_groups": ByNumber(),
    "group_errors_are_errors": Signed(),
    "group_errors_do_not_depend_on_batches": ErrorsOfBatches(),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    assert list(failures("importance", BROKEN[check])) == [check]


def test_every_check_has_its_broken_component():
    assert own_checks("importance") == set(BROKEN)


def test_a_sound_component_passes():
    assert failures("importance", Magnitude()) == {}
