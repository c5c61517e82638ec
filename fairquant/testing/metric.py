"""The contract of role `metric`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fairquant.audit.confusion import confusion_tensor
from fairquant.roles import Confusion, Predictions, Rates
from fairquant.testing.cases import predictions
from fairquant.testing.contract import NotApplicable, everywhere

SEEDS = st.integers(0, 999)


def rates(metric: Any, given: Predictions) -> Rates:
    found: Rates = metric.evaluate(Confusion(confusion_tensor(given)) if metric.needs == "confusion" else given)
    return found


def close(one: Any, other: Any) -> bool:
    return bool(np.allclose(one, other, rtol=1e-7, atol=1e-9, equal_nan=True))


def says_what_it_needs(metric: Any) -> None:
    """`needs` is "confusion" or "predictions", `gap` is True or False."""
    assert metric.needs in ("confusion", "predictions"), f"needs is {metric.needs!r}"
    assert isinstance(metric.gap, bool), f"gap is {metric.gap!r}"


def order_and_names_of_groups_do_not_matter(metric: Any) -> None:
    """Groups in another order under other names: the same value."""

    def law(seed: int, order: list[int]) -> None:
        given = predictions(seed)
        names = tuple(f"renamed {given.group_names[g]}" for g in order)
        other = replace(given, groups=np.argsort(order)[given.groups], group_names=names)
        one, two = rates(metric, given), rates(metric, other)
        assert close(one.value, two.value), f"{one.value} became {two.value} with the groups in the order {order}"
        if one.by_group is not None and two.by_group is not None:
            assert close(np.asarray(one.by_group)[order], two.by_group), "by_group does not follow its groups"

    everywhere(law, seed=SEEDS, order=st.permutations([0, 1, 2]))


def order_of_images_does_not_matter(metric: Any) -> None:
    """Images in another order: the same value."""
    if metric.needs == "confusion":
        raise NotApplicable("it sees counts only")

    def law(seed: int) -> None:
        given = predictions(seed)
        shuffled = given.take(np.random.default_rng(seed + 1).permutation(len(given.labels)))
        one, two = rates(metric, given).value, rates(metric, shuffled).value
        assert close(one, two), f"{one} became {two}"

    everywhere(law, seed=SEEDS)


def equal_groups_have_no_gap(metric: Any) -> None:
    """A gap is 0 where all groups have the same predictions."""
    if not metric.gap:
        raise NotApplicable("it is not a gap")

    def law(seed: int, groups: int) -> None:
        one = predictions(seed, groups=1)
        logits, labels = np.tile(one.logits, (groups, 1)), np.tile(one.labels, groups)
        member = np.repeat(np.arange(groups), len(one.labels))
        alike = Predictions(logits, labels, member, ("a", "b", "c")[:groups], one.class_names)
        value = float(rates(metric, alike).value)
        only_for_two = groups > 2 and value != value  # a gap between two groups has no value for three
        assert only_for_two or abs(value) < 1e-9, f"it is {value} for {groups} groups that are equal"

    everywhere(law, seed=SEEDS, groups=st.sampled_from([2, 3]))


def takes_replicates_at_once(metric: Any) -> None:
    """Counts with leading axes give one value each: the bootstrap draws all replicates at once."""
    if metric.needs != "confusion":
        raise NotApplicable("it sees predictions")

    def law(seeds: list[int]) -> None:
        tables = [confusion_tensor(predictions(seed)) for seed in seeds]
        together = np.asarray(metric.evaluate(Confusion(np.stack(tables))).value)
        alone = [float(metric.evaluate(Confusion(table)).value) for table in tables]
        assert together.shape == (len(seeds),), f"{len(seeds)} tables gave values of shape {together.shape}"
        assert close(together, alone), f"{alone} one by one, {together.tolist()} at once"

    everywhere(law, seeds=st.lists(SEEDS, min_size=2, max_size=4))


def has_one_value_a_group(metric: Any) -> None:
    """`by_group` is None, or has one value for each group."""

    def law(seed: int, groups: int) -> None:
        found = rates(metric, predictions(seed, groups=groups)).by_group
        if found is not None:
            assert np.shape(found) == (groups,), f"{groups} groups gave by_group of shape {np.shape(found)}"

    everywhere(law, seed=SEEDS, groups=st.integers(1, 3))


def survives_an_empty_group(metric: Any) -> None:
    """A group without images costs no exception: the value, or NaN."""

    def law(seed: int) -> None:
        with np.errstate(all="ignore"):
            given = predictions(seed)
            found = rates(metric, replace(given, groups=np.where(given.groups == 1, 0, given.groups)))
        assert np.shape(found.value) == (), f"the value has shape {np.shape(found.value)}"

    everywhere(law, seed=SEEDS)


def weights_of_one_give_the_value(metric: Any) -> None:
    """`weighted`, where there is one, gives the value itself for images that count once each."""
    if not hasattr(metric, "weighted"):
        raise NotApplicable("it has no `weighted`: the audit draws its images one by one")

    def law(seed: int) -> None:
        given = predictions(seed)
        value = float(rates(metric, given).value)
        found = np.asarray(metric.weighted(given, np.ones((2, len(given.labels)))))
        assert close(found, [value, value]), f"evaluate gives {value}, weighted {found}"

    everywhere(law, seed=SEEDS)


def leaves_its_input_alone(metric: Any) -> None:
    """Predictions and counts are not changed."""
    given = predictions(0)
    before: list[Any] = [given.logits.copy(), given.labels.copy(), given.groups.copy()]
    if metric.needs == "confusion":
        table = confusion_tensor(given)
        kept = table.copy()
        metric.evaluate(Confusion(table))
        assert np.array_equal(table, kept), "it changed the counts"
    else:
        metric.evaluate(given)
    now: list[Any] = [given.logits, given.labels, given.groups]
    assert all(np.array_equal(a, b) for a, b in zip(before, now, strict=True)), "it changed the predictions"


CHECKS = (
    says_what_it_needs, order_and_names_of_groups_do_not_matter, order_of_images_does_not_matter, equal_groups_have_no_gap,
    takes_replicates_at_once, has_one_value_a_group, survives_an_empty_group, weights_of_one_give_the_value,
    leaves_its_input_alone,
)  # fmt: skip
