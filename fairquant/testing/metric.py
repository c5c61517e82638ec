"""The contract of role `metric`."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from fairquant.audit.confusion import confusion_tensor
from fairquant.roles import (
    AnyMetric,
    Confusion,
    DirectedMetric,
    Predictions,
    ProportionMetric,
    QualifiedMetric,
    Rates,
    WeightedMetric,
)
from fairquant.testing.cases import predictions
from fairquant.testing.contract import NotApplicable, for_all

SEEDS = st.integers(0, 999)


def rates(metric: AnyMetric, case: Predictions) -> Rates:
    """What the metric computes of predictions, or of their confusion tensor [G, C, C], whichever it needs."""
    if metric.needs == "confusion":
        return metric.evaluate(Confusion(confusion_tensor(case)))
    return metric.evaluate(case)


def close(one: ArrayLike, other: ArrayLike) -> bool:
    """Equal up to rounding; NaN equals NaN."""
    return bool(np.allclose(one, other, rtol=1e-7, atol=1e-9, equal_nan=True))


def says_what_it_needs(metric: AnyMetric) -> None:
    """`needs` is "confusion" or "predictions", `gap` is True or False."""
    assert metric.needs in ("confusion", "predictions"), f"needs is {metric.needs!r}"
    assert isinstance(metric.gap, bool), f"gap is {metric.gap!r}"


def order_and_names_of_groups_do_not_matter(metric: AnyMetric) -> None:
    """Groups in another order and under other names give the same value."""

    def law(seed: int, order: list[int]) -> None:
        case = predictions(seed)
        names = tuple(f"renamed {case.group_names[g]}" for g in order)
        renumbered = replace(case, groups=np.argsort(order)[case.groups], group_names=names)
        one, two = rates(metric, case), rates(metric, renumbered)
        assert close(one.value, two.value), f"{one.value} became {two.value} with the groups in the order {order}"
        if one.by_group is not None and two.by_group is not None:
            assert close(np.asarray(one.by_group)[order], two.by_group), "by_group does not follow its groups"

    for_all(law, seed=SEEDS, order=st.permutations([0, 1, 2]))


def order_of_images_does_not_matter(metric: AnyMetric) -> None:
    """Images in another order give the same value."""
    if metric.needs == "confusion":
        raise NotApplicable("it uses counts only")

    def law(seed: int) -> None:
        case = predictions(seed)
        shuffled = case.take(np.random.default_rng(seed + 1).permutation(len(case.labels)))
        one, two = rates(metric, case).value, rates(metric, shuffled).value
        assert close(one, two), f"{one} became {two}"

    for_all(law, seed=SEEDS)


def equal_groups_have_no_gap(metric: AnyMetric) -> None:
    """A gap is 0 where all groups have the same predictions."""
    if not metric.gap:
        raise NotApplicable("it is not a gap")

    def law(seed: int, groups: int) -> None:
        one = predictions(seed, groups=1)
        equal = Predictions(
            logits=np.tile(one.logits, (groups, 1)),
            labels=np.tile(one.labels, groups),
            groups=np.repeat(np.arange(groups), len(one.labels)),
            group_names=("a", "b", "c")[:groups],
            class_names=one.class_names,
        )
        value = float(rates(metric, equal).value)
        only_for_two = groups > 2 and value != value  # a gap between two groups has no value for three
        assert only_for_two or abs(value) < 1e-9, f"it is {value} for {groups} groups that are equal"

    for_all(law, seed=SEEDS, groups=st.sampled_from([2, 3]))


def takes_replicates_at_once(metric: AnyMetric) -> None:
    """Counts with leading axes give one value each: the bootstrap evaluates all replicates at once."""
    if metric.needs != "confusion":
        raise NotApplicable("it uses predictions")

    def law(seeds: list[int]) -> None:
        tables = [confusion_tensor(predictions(seed)) for seed in seeds]
        together = np.asarray(metric.evaluate(Confusion(np.stack(tables))).value)
        alone = [float(metric.evaluate(Confusion(table)).value) for table in tables]
        assert together.shape == (len(seeds),), f"{len(seeds)} tables gave values of shape {together.shape}"
        assert close(together, alone), f"{alone} one by one, {together.tolist()} at once"

    for_all(law, seeds=st.lists(SEEDS, min_size=2, max_size=4))


def has_one_value_a_group(metric: AnyMetric) -> None:
    """`by_group` is None, or has one value for each group."""

    def law(seed: int, groups: int) -> None:
        by_group = rates(metric, predictions(seed, groups=groups)).by_group
        if by_group is not None:
            assert np.shape(by_group) == (groups,), f"{groups} groups gave by_group of shape {np.shape(by_group)}"

    for_all(law, seed=SEEDS, groups=st.integers(1, 3))


def survives_an_empty_group(metric: AnyMetric) -> None:
    """A group without images does not raise an exception; the value may be NaN."""

    def law(seed: int) -> None:
        with np.errstate(all="ignore"):
            case = predictions(seed)
            value = rates(metric, replace(case, groups=np.where(case.groups == 1, 0, case.groups))).value
        assert np.shape(value) == (), f"the value has shape {np.shape(value)}"

    for_all(law, seed=SEEDS)


def weights_of_one_give_the_value(metric: AnyMetric) -> None:
    """`weighted`, where there is one, gives the value itself when every image has weight 1."""
    if not isinstance(metric, WeightedMetric):
        raise NotApplicable("it has no `weighted`: the audit resamples its images one by one")
    weighted = metric.weighted

    def law(seed: int) -> None:
        case = predictions(seed)
        value = float(rates(metric, case).value)
        values = np.asarray(weighted(case, np.ones((2, len(case.labels)))))
        assert close(values, [value, value]), f"evaluate gives {value}, weighted {values}"

    for_all(law, seed=SEEDS)


def counted_images_give_the_value(metric: AnyMetric) -> None:
    """`counted`, where there is one, names images whose fraction that is right is the value, overall and by group."""
    if not isinstance(metric, ProportionMetric):
        raise NotApplicable("it is not a fraction of images")
    count = metric.counted
    if count(predictions(0)) is None:
        raise NotApplicable("with these options it is not a fraction of images")

    def law(seed: int) -> None:
        case = predictions(seed)
        found = count(case)
        assert found is not None, "it is a fraction for some predictions and not for others"
        counted, right = found
        for what, rows in (("images that count", counted), ("images that are right", right)):
            assert rows.shape == case.labels.shape and rows.dtype == bool, f"the {what} are not [N] flags"
        value = rates(metric, case)
        assert close(value.value, right[counted].mean()), f"{value.value}, and {right[counted].mean()} of the images"
        for group, own in enumerate(() if value.by_group is None else value.by_group):
            members = counted & (case.groups == group)
            assert close(own, right[members].mean()), f"group {group}: {own}, and {right[members].mean()} of its images"

    for_all(law, seed=SEEDS)


def leaves_its_input_alone(metric: AnyMetric) -> None:
    """Predictions and counts are not modified."""
    case, original = predictions(0), predictions(0)
    try:
        if metric.needs == "confusion":
            table = confusion_tensor(case)
            metric.evaluate(Confusion(table))
            assert np.array_equal(table, confusion_tensor(original)), "it modified the counts"
        else:
            metric.evaluate(case)
    except ValueError as error:
        if "read-only" in str(error):
            raise AssertionError("it writes into its input, which cannot be written into: write into a copy") from error
        raise
    for name in ("logits", "labels", "groups"):
        assert np.array_equal(getattr(case, name), getattr(original, name)), f"it modified the {name}"


def direction_and_qualifier_can_be_shown(metric: AnyMetric) -> None:
    """`lower_is_better` and `qualifier`, where there are any, are True or False and a kebab-case text."""
    if not isinstance(metric, DirectedMetric | QualifiedMetric):
        raise NotApplicable("it has neither")
    if isinstance(metric, DirectedMetric):
        assert isinstance(metric.lower_is_better, bool), f"lower_is_better is {metric.lower_is_better!r}"
    if isinstance(metric, QualifiedMetric):
        qualifier = metric.qualifier
        plain = isinstance(qualifier, str) and re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", qualifier)
        assert plain, f"qualifier is {qualifier!r}"


CHECKS = (
    says_what_it_needs, order_and_names_of_groups_do_not_matter, order_of_images_does_not_matter, equal_groups_have_no_gap,
    takes_replicates_at_once, has_one_value_a_group, survives_an_empty_group, weights_of_one_give_the_value,
    counted_images_give_the_value, leaves_its_input_alone, direction_and_qualifier_can_be_shown,
)  # fmt: skip
