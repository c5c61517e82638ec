"""Several tests at once: Holm's steps, Tarone's counting, and the error that both hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests

from fairquant.audit.holm import holm
from fairquant.audit.paired import p_above_zero, smallest_p


@pytest.mark.parametrize("level", [0.05, 0.01, 0.1])
def test_without_smallest_values_it_is_holms_of_statsmodels(level):
    draw = np.random.default_rng(3)
    for _ in range(8):  # statsmodels collects garbage in each call
        p = draw.random(draw.integers(5, 60)) ** draw.integers(1, 8)
        assert (holm(p, level).rejected == multipletests(p, alpha=level, method="holm")[0]).all()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), tests=st.integers(1, 40))
def test_what_is_rejected_is_at_most_the_level_and_all_else_above_it(seed, tests):
    """So that intervals at this level agree with the test."""
    draw = np.random.default_rng(seed)
    lost, gained = draw.poisson(6, tests).astype(float), draw.poisson(1, tests).astype(float)
    p, smallest = p_above_zero(lost, gained), smallest_p(lost, gained)
    for joint in (holm(p), holm(p, smallest=smallest)):
        assert (p[joint.rejected] <= joint.level).all()
        assert (p[~joint.rejected] > joint.level).all()
        assert 0 < joint.level <= 0.05


def test_holms_steps_by_hand():
    joint = holm(np.array([0.02, 0.30, 0.012, 0.04]))  # limits .0125, .0167, .025, .05
    assert joint.rejected.tolist() == [False, False, True, False]
    assert joint.level == pytest.approx(0.05 / 3)


def test_tests_that_could_not_be_rejected_do_not_count():
    """One test that can reach its level among 600 that cannot: it is tested as if it were alone."""
    p = np.r_[0.03, np.full(600, 0.5)]
    smallest = np.r_[0.001, np.full(600, 0.25)]
    assert not holm(p).rejected.any()
    joint = holm(p, smallest=smallest)
    assert joint.rejected.tolist() == [True] + [False] * 600
    assert joint.level == 0.05


def test_the_number_counted_is_tarones():
    """Two tests can reach .05 / 2, a third only .05: it does not count, and the limits are those of two tests."""
    smallest = np.array([0.01, 0.02, 0.04])
    assert holm(np.array([0.024, 0.9, 0.045]), smallest=smallest).rejected.tolist() == [True, False, False]
    assert not holm(np.array([0.026, 0.9, 0.9]), smallest=smallest).rejected.any()
    assert not holm(np.array([0.024, 0.9, 0.9])).rejected.any()  # three would count


def test_no_tests_are_no_errors():
    assert holm(np.zeros(0)).rejected.shape == (0,)
    assert not holm(np.ones(3), smallest=np.ones(3)).rejected.any()


def test_the_error_over_many_small_cells_is_at_most_the_level():
    """2,000 audits in which nothing is lost in truth, each of 60 cells with 0 to 25 changed images: McNemar's exact test, any
    rejection. At most 5 %, and more than plain Holm finds where something is lost."""
    draw = np.random.default_rng(1)
    changed = draw.integers(0, 26, 60).astype(float)
    lost = draw.binomial(changed.astype(int), 0.5, (2000, 60)).astype(float)
    wrong = sum(
        holm(p_above_zero(row, changed - row), smallest=smallest_p(row, changed - row)).rejected.any() for row in lost
    )
    assert wrong <= binom.ppf(0.999, 2000, 0.05)
    harmed = lost.copy()
    harmed[:, np.argmax(changed == 12)] = 12
    with_tarone, plain = (
        sum(
            holm(
                p_above_zero(row, changed - row), smallest=smallest_p(row, changed - row) if counted else None
            ).rejected.any()
            for row in harmed[:200]
        )
        for counted in (True, False)
    )
    assert with_tarone == 200
    assert plain <= with_tarone


def test_the_error_counts_even_where_some_cells_are_harmed():
    """Strong control: with 20 cells truly harmed, a rejection among the 40 others is still at most 5 %."""
    draw = np.random.default_rng(2)
    changed = np.r_[np.full(20, 30.0), draw.integers(5, 40, 40).astype(float)]
    rate = np.r_[np.full(20, 0.95), np.full(40, 0.5)]
    lost = draw.binomial(changed.astype(int), rate, (2000, 60)).astype(float)
    wrong = sum(
        holm(p_above_zero(row, changed - row), smallest=smallest_p(row, changed - row)).rejected[20:].any()
        for row in lost
    )
    assert 20 <= wrong <= binom.ppf(0.999, 2000, 0.05)
