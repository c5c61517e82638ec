"""The conformance kit bites: for every check, a component that is broken in just that way fails just that check."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from fairquant_fair.accuracy import group_accuracy, nan_spread
from fairquant_paper.uniform import Uniform, UniformWeightQuantizer
from fairquant_rivals.codebook import CodebookWeightQuantizer

from fairquant.errors import Infeasible
from fairquant.roles import Allocation, ArrayImages, GroupImportance, QuantizedWeight, Rates, Source, Split, Splits
from fairquant.testing import CHECKS, MetricSuite, conformance

# --- metrics ---


@dataclass(frozen=True)
class Gap:
    """A sound metric."""

    needs: ClassVar = "confusion"
    gap: ClassVar = True

    def evaluate(self, confusion):
        accuracy = group_accuracy(confusion)
        return Rates(nan_spread(accuracy), accuracy)


@dataclass
class NotFrozen:
    """Mutable."""

    needs: ClassVar = "confusion"
    gap: ClassVar = True
    evaluate = Gap.evaluate


@dataclass(frozen=True)
class NoDocstring:
    needs: ClassVar = "confusion"
    gap: ClassVar = True
    evaluate = Gap.evaluate


@dataclass(frozen=True)
class WantsMore(Gap):
    """Wants an argument that nobody gives."""

    def evaluate(self, confusion, baseline):
        return Gap.evaluate(self, confusion)


@dataclass(frozen=True)
class DoublesItself(Gap):
    """Its option grows each time a recipe is read."""

    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", self.scale * 2)


@dataclass(frozen=True)
class UnclearGap(Gap):
    """A word where True or False belongs."""

    gap: ClassVar = "yes"


@dataclass(frozen=True)
class FirstGroup(Gap):
    """Takes group 0 for the one that counts."""

    gap: ClassVar = False

    def evaluate(self, confusion):
        accuracy = group_accuracy(confusion)
        return Rates(accuracy[..., 0], accuracy)


@dataclass(frozen=True)
class FirstHalf:
    """Looks at the first half of the images only."""

    needs: ClassVar = "predictions"
    gap: ClassVar = False

    def evaluate(self, predictions):
        right = predictions.predicted == predictions.labels
        return Rates(right[: len(right) // 2].mean())


@dataclass(frozen=True)
class NeverZero(Gap):
    """A gap that does not go below a tenth."""

    def evaluate(self, confusion):
        rates = Gap.evaluate(self, confusion)
        return replace(rates, value=rates.value + 0.1)


@dataclass(frozen=True)
class AllTogether(Gap):
    """Adds all replicates up."""

    gap: ClassVar = False

    def evaluate(self, confusion):
        return Rates(np.asarray(confusion.hits.sum() / confusion.table.sum()))


@dataclass(frozen=True)
class ExtraAxis(Gap):
    """by_group with an axis too many."""

    def evaluate(self, confusion):
        rates = Gap.evaluate(self, confusion)
        return replace(rates, by_group=rates.by_group[..., None])


@dataclass(frozen=True)
class NoEmptyGroups(Gap):
    """Gives up where a group has no images."""

    def evaluate(self, confusion):
        if (confusion.images == 0).any():
            raise ZeroDivisionError("a group has no images")
        return Gap.evaluate(self, confusion)


@dataclass(frozen=True)
class OtherWeights:
    """Its fast way is not its slow way."""

    needs: ClassVar = "predictions"
    gap: ClassVar = False

    def evaluate(self, predictions):
        return Rates(np.asarray((predictions.predicted == predictions.labels).mean()))

    def weighted(self, predictions, weights):
        return weights @ (predictions.predicted == predictions.labels)


@dataclass(frozen=True)
class Smooths(Gap):
    """Smooths the counts in place."""

    def evaluate(self, confusion):
        confusion.table[...] += 0.5
        return Gap.evaluate(self, confusion)


# --- allocators ---


@dataclass(frozen=True)
class Greedy:
    """A sound allocator: the cheapest plan, raised unit by unit while the budget lasts."""

    def start(self, problem):
        choices = torch.tensor(problem.choices)
        return choices[problem.allowed.int().argmax(1)]

    def allocate(self, problem):
        if problem.least_bits() > problem.average_bits:
            raise Infeasible("no plan fits")
        bits = self.start(problem).clone()
        left = int(problem.capacity) - int((bits * problem.sizes).sum())
        for unit in torch.argsort(problem.scores, descending=True, stable=True).tolist():
            for choice, allowed in zip(problem.choices, problem.allowed[unit].tolist(), strict=True):
                cost = (choice - int(bits[unit])) * int(problem.sizes[unit])
                if allowed and 0 < cost <= left:
                    bits[unit], left = choice, left - cost
        return Allocation(bits)


@dataclass(frozen=True)
class OwnWidths(Greedy):
    """Gives 1 bit in place of 2, asked or not."""

    def allocate(self, problem):
        bits = super().allocate(problem).bits
        return Allocation(torch.where(bits == 2, 1, bits))


@dataclass(frozen=True)
class Spender(Greedy):
    """Everything at the most bits."""

    def allocate(self, problem):
        super().allocate(problem)
        return Allocation(torch.full_like(problem.sizes, problem.choices[-1]))


@dataclass(frozen=True)
class Unpins(Greedy):
    """Starts every unit at the smallest choice."""

    def allocate(self, problem):
        if problem.least_bits() > problem.average_bits:
            raise Infeasible("no plan fits")
        return Allocation(torch.full_like(problem.sizes, problem.choices[0]))


@dataclass(frozen=True)
class NeverRefuses(Greedy):
    """The cheapest plan, whatever the budget."""

    def allocate(self, problem):
        return Allocation(self.start(problem))


@dataclass(frozen=True)
class AlwaysRefuses(Greedy):
    """No budget is enough."""

    def allocate(self, problem):
        raise Infeasible("not enough")


@dataclass(frozen=True)
class Dice(Greedy):
    """Lowers some units by chance."""

    def allocate(self, problem):
        bits, lowest = super().allocate(problem).bits, self.start(problem)
        return Allocation(torch.where(torch.rand(len(bits)) < 0.5, lowest, bits))


@dataclass(frozen=True)
class Rescales(Greedy):
    """Normalises the scores in place."""

    def allocate(self, problem):
        problem.scores.div_(2 * problem.scores.sum())
        return super().allocate(problem)


# --- reducers ---


@dataclass(frozen=True)
class KeepsAxis:
    """The mean, with an axis too many."""

    def reduce(self, importance, group_names):
        return importance.mean(0, keepdim=True)


@dataclass(frozen=True)
class Squares:
    """The mean, squared."""

    def reduce(self, importance, group_names):
        return importance.mean(0) ** 2


@dataclass(frozen=True)
class First:
    """Group 0, whichever it is."""

    def reduce(self, importance, group_names):
        return importance[0].clone()


@dataclass(frozen=True)
class Rounds:
    """The mean; rounds its input on the way."""

    def reduce(self, importance, group_names):
        mean = importance.mean(0)
        importance.copy_(importance.round(decimals=6))
        return mean


# --- importance ---


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


# --- quantizers ---


def quantizer(module, doc):
    @dataclass(frozen=True)
    class Built:
        def build(self, weight, bits, choices):
            return module(weight, bits, "absmax")

    Built.__doc__ = doc
    return Built()


class Drifts(UniformWeightQuantizer):
    def forward(self, weight):
        return super().forward(weight) + 1e-6 * (self.width[:, None] > 0)


class Doubles(UniformWeightQuantizer):
    def encode(self, weight):
        stored = super().encode(weight)
        return replace(stored, codes=stored.codes.clamp(-60, 60) * 2, scale=stored.scale / 2)

    def forward(self, weight):
        return (
            weight + (self.encode(weight).decode() - weight).detach() if self.training else self.encode(weight).decode()
        )


class NeverFrozen(UniformWeightQuantizer):
    learns_bits = True


class NotPruned(CodebookWeightQuantizer):
    def __init__(self, weight, bits, scale):
        super().__init__(weight, bits, tuple(range(9)), 0.9, 10)
        self.codewords[0, 0] = 0.5

    def encode(self, weight) -> QuantizedWeight:
        return replace(super().encode(weight), codebook=self.codewords)


class NoGradient(UniformWeightQuantizer):
    def forward(self, weight):
        return super().forward(weight).detach()


class WorseWithEight(UniformWeightQuantizer):
    def grid(self, rows):
        grid = super().grid(rows)
        return replace(grid, scale=torch.where(grid.largest == 127, grid.scale * 1e6, grid.scale))


class Secret(UniformWeightQuantizer):
    def __init__(self, weight, bits, scale):
        super().__init__(weight, bits, scale)
        self.factor = 1 + 0.1 * torch.sigmoid(weight.sum())  # no buffer: lost on resuming

    def grid(self, rows):
        grid = super().grid(rows)
        return replace(grid, scale=grid.scale * self.factor)


# --- regularizers ---


@dataclass(frozen=True)
class LossSpread:
    """A sound regularizer."""

    def penalty(self, step):
        losses = step.group_losses()
        return losses.max() - losses.min()


@dataclass(frozen=True)
class NoScalar(LossSpread):
    """A vector of one."""

    def penalty(self, step):
        return super().penalty(step)[None]


@dataclass(frozen=True)
class Detached(LossSpread):
    """A number that training cannot move."""

    def penalty(self, step):
        return super().penalty(step).detach()


@dataclass(frozen=True)
class MeanLoss(LossSpread):
    """The task's loss again, called fairness."""

    def penalty(self, step):
        return step.losses.mean()


@dataclass(frozen=True)
class FirstImage(LossSpread):
    """Weighs by the first image's label."""

    def penalty(self, step):
        return super().penalty(step) * (1 + step.labels[0])


@dataclass(frozen=True)
class GroupNumber(LossSpread):
    """Weighs by the number of the worst group."""

    def penalty(self, step):
        losses, present = step.losses_by_group()
        worst = torch.where(present, losses, -torch.inf).argmax()
        return super().penalty(step) * (1 + worst)


@dataclass(frozen=True)
class DictMemory(LossSpread):
    """Keeps its state where no checkpoint finds it."""

    def memory(self):
        return {}


# --- datasets ---


@dataclass(frozen=True)
class Dots:
    """A sound data set."""

    def check(self):
        return []

    def load(self, context):
        parts = [self.split(name, number, context) for number, name in enumerate(("train", "validation", "test"))]
        train, validation, test = parts
        return Splits(
            train=train,
            validation=validation,
            test=test,
            class_names=("x", "y"),
            group_names=("a", "b"),
            attributes=("group",),
            fingerprint="dots",
        )

    def split(self, name, number, context):
        draw = np.random.default_rng([context.seed, number])
        array = draw.integers(0, 255, (8, context.image_size, context.image_size, 3), np.uint8)
        labels, groups = np.arange(8) % 2, np.arange(8) // 2 % 2
        return Split(ArrayImages(array, np.arange(8)), labels, groups, tuple(f"{name}-{row}" for row in range(8)))


@dataclass(frozen=True)
class SaysNothing(Dots):
    """check() without an answer."""

    def check(self):
        return None


@dataclass(frozen=True)
class SmallIntegers(Dots):
    """Labels of 32 bits."""

    def split(self, name, number, context):
        split = super().split(name, number, context)
        return replace(split, labels=split.labels.astype(np.int32))


@dataclass(frozen=True)
class FixedSize(Dots):
    """Its images have a size of their own."""

    def split(self, name, number, context):
        return super().split(name, number, replace(context, image_size=16))


@dataclass(frozen=True)
class Leaks(Dots):
    """The same images in every part."""

    def split(self, name, number, context):
        return super().split("image", number, context)


@dataclass(frozen=True)
class NewEachTime(Dots):
    """A fingerprint by chance."""

    def load(self, context):
        return replace(super().load(context), fingerprint=str(uuid.uuid4()))


@dataclass(frozen=True)
class Climbs(Dots):
    """Downloads to a place outside its root."""

    root: str = "data"

    def sources(self):
        return (Source("https://example.org/table.csv", "../table.csv"),)


# --- optional members ---


@dataclass(frozen=True)
class Objects(Greedy):
    """Objects to every budget."""

    def objections(self, average_bits, choices):
        return [("budget.average_bits", "never enough")]


@dataclass(frozen=True)
class Descends(Uniform):
    """Names its widths in the wrong order."""

    widths: ClassVar = (4, 2)


@dataclass(frozen=True)
class NeedsTheFuture(LossSpread):
    """Needs what the engine does not have."""

    needs: ClassVar = frozenset({"next_batch"})


@dataclass(frozen=True)
class Shouts(Gap):
    """A qualifier that no file name takes."""

    qualifier: ClassVar = "VERY good"


@dataclass(frozen=True)
class ExemptFromNothing(Gap):
    """Declares a rule that does not exist."""

    exempt: ClassVar = {"equal_groups": "it is my wish"}


BROKEN = {
    ("metric", "exempts_known_rules"): ExemptFromNothing(),
    ("metric", "direction_and_qualifier_can_be_shown"): Shouts(),
    ("allocator", "objections_name_recipe_keys"): Objects(),
    ("quantizer", "widths_are_bit_widths"): Descends(),
    ("regularizer", "needs_what_the_engine_has"): NeedsTheFuture(),
    ("dataset", "sources_stay_under_the_root"): Climbs(),
    ("metric", "is_a_frozen_dataclass"): NotFrozen(),
    ("metric", "has_a_docstring"): NoDocstring(),
    ("metric", "signature_fits_the_role"): WantsMore(),
    ("metric", "recipe_round_trip"): DoublesItself(),
    ("metric", "says_what_it_needs"): UnclearGap(),
    ("metric", "order_and_names_of_groups_do_not_matter"): FirstGroup(),
    ("metric", "order_of_images_does_not_matter"): FirstHalf(),
    ("metric", "equal_groups_have_no_gap"): NeverZero(),
    ("metric", "takes_replicates_at_once"): AllTogether(),
    ("metric", "has_one_value_a_group"): ExtraAxis(),
    ("metric", "survives_an_empty_group"): NoEmptyGroups(),
    ("metric", "weights_of_one_give_the_value"): OtherWeights(),
    ("metric", "leaves_its_input_alone"): Smooths(),
    ("allocator", "covers_every_unit_with_allowed_bits"): OwnWidths(),
    ("allocator", "never_exceeds_the_budget"): Spender(),
    ("allocator", "pinned_units_keep_their_bits"): Unpins(),
    ("allocator", "an_infeasible_budget_raises"): NeverRefuses(),
    ("allocator", "meets_some_budget"): AlwaysRefuses(),
    ("allocator", "the_same_problem_gives_the_same_plan"): Dice(),
    ("allocator", "leaves_its_input_alone"): Rescales(),
    ("reducer", "gives_one_finite_score_a_unit"): KeepsAxis(),
    ("reducer", "equal_groups_give_that_row_back"): Squares(),
    ("reducer", "order_of_groups_does_not_matter"): First(),
    ("reducer", "leaves_its_input_alone"): Rounds(),
    ("importance", "scores_every_unit_for_every_group"): RowsAlways(),
    ("importance", "leaves_the_model_as_it_was"): LeavesEval(),
    ("importance", "batches_do_not_matter"): BatchMeans(),
    ("importance", "scores_follow_their_groups"): ByNumber(),
    ("importance", "group_errors_are_errors"): Signed(),
    ("importance", "group_errors_do_not_depend_on_batches"): ErrorsOfBatches(),
    ("quantizer", "decoding_gives_the_forward_bit_for_bit"): quantizer(Drifts, "Drifts."),
    ("quantizer", "codes_fit_their_bits"): quantizer(Doubles, "Doubles its codes."),
    ("quantizer", "freeze_sets_the_bits"): quantizer(NeverFrozen, "Learns for ever."),
    ("quantizer", "no_bits_prune_the_unit"): quantizer(NotPruned, "Never prunes."),
    ("quantizer", "the_gradient_reaches_the_weight"): quantizer(NoGradient, "Stops the gradient."),
    ("quantizer", "more_bits_are_closer"): quantizer(WorseWithEight, "Worse with more bits."),
    ("quantizer", "its_state_is_in_the_state_dict"): quantizer(Secret, "Keeps a secret."),
    ("regularizer", "is_finite_and_differentiable"): NoScalar(),
    ("regularizer", "can_be_trained_on"): Detached(),
    ("regularizer", "one_group_costs_nothing"): MeanLoss(),
    ("regularizer", "order_of_images_does_not_matter"): FirstImage(),
    ("regularizer", "order_of_groups_does_not_matter"): GroupNumber(),
    ("regularizer", "memory_is_a_module"): DictMemory(),
    ("dataset", "says_what_is_missing"): SaysNothing(),
    ("dataset", "labels_and_groups_fit_their_names"): SmallIntegers(),
    ("dataset", "images_are_three_channels_of_the_size_asked_for"): FixedSize(),
    ("dataset", "no_image_is_in_two_splits"): Leaks(),
    ("dataset", "the_same_seed_gives_the_same_splits"): NewEachTime(),
}
SHARED = (
    "is_a_frozen_dataclass", "has_a_docstring", "signature_fits_the_role", "recipe_round_trip", "exempts_known_rules",
)  # fmt: skip


@pytest.mark.parametrize(("role", "check"), BROKEN, ids=" ".join)
def test_a_broken_component_fails_just_that_check(role, check):
    results = conformance(role, BROKEN[role, check])
    assert [(each.check, each.reason) for each in results if each.outcome == "failed" and each.check != check] == []
    assert [each.check for each in results if each.outcome == "failed"] == [check]


def test_every_check_has_its_broken_component():
    every = {(role, check.name) for role, checks in CHECKS.items() for check in checks}
    assert every == set(BROKEN) | {(role, name) for role in CHECKS for name in SHARED}


@pytest.mark.parametrize(
    ("role", "component"),
    [
        ("metric", Gap()),
        ("allocator", Greedy()),
        ("importance", Magnitude()),
        ("regularizer", LossSpread()),
        ("dataset", Dots()),
    ],
)
def test_sound_components_pass(role, component):
    assert [each for each in conformance(role, component) if each.outcome == "failed"] == []


def test_declared_failures_are_strict():
    expected = {"equal_groups_have_no_gap": "it never goes below a tenth"}
    assert "expected" in [each.outcome for each in conformance("metric", NeverZero(), expected)]
    strict = [each for each in conformance("metric", Gap(), expected) if each.outcome == "failed"]
    assert [each.check for each in strict] == ["equal_groups_have_no_gap"]
    assert "but passes: remove the declaration" in strict[0].reason
    with pytest.raises(TypeError, match="no check of role 'metric' is called 'equal_groups'. Did you mean"):

        class TestUnknown(MetricSuite):
            expected_failures: ClassVar = {"equal_groups": "?"}
