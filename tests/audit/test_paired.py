"""Paired proportions: intervals and p-values against statsmodels, enumeration and formulas written independently."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import binom, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from fairquant.audit.paired import interval, p_above_zero, p_below, score, smallest_p, wilson

Z = float(norm.isf(0.025))
#: lost, gained, images
PAIRS = [(15, 0, 57), (12, 7, 50), (3, 9, 30), (1, 0, 20), (0, 4, 25), (40, 35, 200), (10, 10, 40), (5, 2, 7)]


@pytest.mark.parametrize(("right", "images"), [(0, 10), (10, 10), (1, 1), (7, 20), (40, 57), (999, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_that_of_statsmodels(right, images, level):
    expected = proportion_confint(right, images, alpha=1 - level, method="wilson")
    assert wilson(np.array(float(right)), np.array(float(images)), level) == pytest.approx(expected, abs=1e-12)


def test_wilson_has_exact_ends_and_none_without_images():
    low, high = wilson(np.array([0.0, 7.0, 0.0]), np.array([7.0, 7.0, 0.0]), 0.95)
    assert (low[0], high[1]) == (0.0, 1.0)
    assert np.isnan([low[2], high[2]]).all()


@pytest.mark.parametrize(("lost", "gained"), [(15, 0), (9, 3), (5, 4), (30, 11), (1, 0)])
def test_a_loss_is_tested_by_mcnemars_exact_test(lost, gained):
    p = float(p_above_zero(np.array(float(lost)), np.array(float(gained))))
    assert p == pytest.approx(mcnemar([[50, lost], [gained, 50]], exact=True).pvalue / 2)


@pytest.mark.parametrize(("lost", "gained"), [(15, 0), (3, 9), (4, 4), (0, 5), (0, 0)])
def test_the_probability_of_so_many_losses_by_counting_coins(lost, gained):
    changed = lost + gained
    more = sum(bin(coins).count("1") >= lost for coins in range(2**changed))
    assert float(p_above_zero(np.array(float(lost)), np.array(float(gained)))) == pytest.approx(more / 2**changed)


def test_the_smallest_p_is_that_of_all_changed_images_lost():
    changed = np.arange(12.0)
    assert smallest_p(changed, 0 * changed) == pytest.approx(p_above_zero(changed, 0 * changed))
    assert smallest_p(changed - changed // 3, changed // 3) == pytest.approx(p_above_zero(changed, 0 * changed))


def test_the_case_of_the_57_melanomas():
    """40 found before and 25 after, none gained: 15 coins of 15."""
    lost, gained, images = (np.array(float(each)) for each in (15, 0, 57))
    assert float(p_above_zero(lost, gained)) == pytest.approx(2.0**-15)
    low, high = interval(lost, gained, images)
    assert 0.15 < float(low) < 15 / 57 < float(high) < 0.40
    assert float(p_below(lost, gained, images, 0.05)) > 0.999


@pytest.mark.parametrize(("lost", "gained", "images"), PAIRS)
@pytest.mark.parametrize("tail", [0.025, 0.005])
def test_the_ends_are_the_losses_whose_score_is_the_normal_quantile(lost, gained, images, tail):
    lost, gained, images = (np.array(float(each)) for each in (lost, gained, images))
    low, high = (float(end) for end in interval(lost, gained, images, tail, tail))
    z = float(norm.isf(tail))
    assert float(score(lost, gained, images, low)) == pytest.approx(z, abs=1e-6)
    assert float(score(lost, gained, images, high)) == pytest.approx(-z, abs=1e-6)
    grid = np.linspace(-0.9999, 0.9999, 20_001)
    inside = grid[np.abs(score(lost, gained, images, grid)) < z]
    assert (low, high) == pytest.approx((inside.min(), inside.max()), abs=2e-4)


def test_the_two_tails_are_apart():
    lost, gained, images = (np.array(float(each)) for each in (12, 7, 50))
    low, high = interval(lost, gained, images, 0.01, 0.1)
    assert float(low) == pytest.approx(float(interval(lost, gained, images, 0.01, 0.01)[0]))
    assert float(high) == pytest.approx(float(interval(lost, gained, images, 0.1, 0.1)[1]))


def log_likelihood(lost: int, gained: int, images: int, q_gained: np.ndarray, loss: float) -> np.ndarray:
    """Of the trinomial with P(gained) = q_gained, P(lost) = q_gained + loss."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [
            count * np.log(rate) if count else np.zeros_like(q_gained)
            for count, rate in (
                (lost, q_gained + loss),
                (gained, q_gained),
                (images - lost - gained, 1 - 2 * q_gained - loss),
            )
        ]
    return np.nan_to_num(sum(parts), nan=-np.inf)


@pytest.mark.parametrize(("lost", "gained", "images"), PAIRS)
@pytest.mark.parametrize("loss", [-0.2, 0.05, 0.3])
def test_the_score_is_at_the_most_likely_rates_with_this_loss(lost, gained, images, loss):
    """Tango's definition: the variance at the maximum of the likelihood under the hypothesis, found here on a grid."""
    rates = np.linspace(max(0.0, -loss), (1 - loss) / 2, 400_001)
    best = rates[np.argmax(log_likelihood(lost, gained, images, rates, loss))]
    variance = images * (2 * best + loss - loss**2)
    expected = (lost - gained - images * loss) / np.sqrt(variance)
    assert float(score(*(np.array(float(each)) for each in (lost, gained, images)), loss)) == pytest.approx(
        expected, abs=1e-3
    )


@pytest.mark.parametrize("images", [1, 10, 57, 1000])
def test_without_discordant_pairs_the_interval_has_a_closed_form(images):
    low, high = interval(np.zeros(1), np.zeros(1), np.array([float(images)]))
    end = Z**2 / (images + Z**2)
    assert (float(low[0]), float(high[0])) == pytest.approx((-end, end))


def newcombe(both: int, lost: int, gained: int, neither: int) -> tuple[float, float]:
    """Method 10 of Newcombe (Statistics in Medicine 17, 1998, 2635-2650): Wilson intervals squared and added, with phi."""
    images = both + lost + gained + neither
    p1, p2 = (both + lost) / images, (both + gained) / images

    def ends(p: float) -> tuple[float, float]:
        middle, reach = 2 * images * p + Z**2, Z * np.sqrt(Z**2 + 4 * images * p * (1 - p))
        return (middle - reach) / (2 * (images + Z**2)), (middle + reach) / (2 * (images + Z**2))

    (l1, u1), (l2, u2) = ends(p1), ends(p2)
    product, cross = (
        (both + lost) * (gained + neither) * (both + gained) * (lost + neither),
        both * neither - lost * gained,
    )
    if product == 0:
        phi = 0.0
    elif cross > images / 2:
        phi = (cross - images / 2) / np.sqrt(product)
    else:
        phi = min(cross, 0.0) / np.sqrt(product)
    low = np.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    high = np.sqrt((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2)
    return p1 - p2 - low, p1 - p2 + high


def test_newcombes_published_example_here():
    """His table I, the first set: 36, 12, 2, 0 gives 0.0569 to 0.3404 by method 10."""
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize(
    ("both", "lost", "gained", "neither"), [(36, 12, 2, 0), (100, 20, 10, 70), (60, 15, 15, 30), (400, 40, 25, 135)]
)
def test_tangos_interval_is_close_to_newcombes(both, lost, gained, neither):
    images = np.array(float(both + lost + gained + neither))
    ends = interval(np.array(float(lost)), np.array(float(gained)), images)
    assert [float(end) for end in ends] == pytest.approx(newcombe(both, lost, gained, neither), abs=0.02)


def trinomial(images: int, p_lost: float, p_gained: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (lost, gained) with its probability."""
    lost, gained = (each.ravel().astype(float) for each in np.mgrid[: images + 1, : images + 1])
    possible = lost + gained <= images
    lost, gained = lost[possible], gained[possible]
    same = images - lost - gained
    with np.errstate(divide="ignore", invalid="ignore"):
        log = gammaln(images + 1) - gammaln(lost + 1) - gammaln(gained + 1) - gammaln(same + 1)
        for count, rate in ((lost, p_lost), (gained, p_gained), (same, 1 - p_lost - p_gained)):
            log = log + np.where(count > 0, count * np.log(rate), 0.0)
    return lost, gained, np.exp(log)


@pytest.mark.parametrize("images", [10, 20, 57, 100])
@pytest.mark.parametrize("limit", [0.02, 0.05, 0.1])
def test_a_loss_at_the_limit_passes_no_more_often_than_the_level(images, limit):
    """By enumeration of all results, for every rate of changed images from the limit (none gained) on."""
    for rate in np.linspace(limit, 0.9, 25):
        lost, gained, probability = trinomial(images, (rate + limit) / 2, max((rate - limit) / 2, 0.0))
        assert probability.sum() == pytest.approx(1)
        p = p_below(lost, gained, np.full(len(lost), float(images)), limit)
        for level in (0.05, 0.005):
            assert probability[p <= level].sum() <= level, (rate, level)


def test_a_harmless_model_passes_often_where_images_are_many():
    """The test above would pass for a p that is always 1: its power, by enumeration."""
    lost, gained, probability = trinomial(300, 0.01, 0.01)
    assert probability[p_below(lost, gained, np.full(len(lost), 300.0), 0.05) <= 0.05].sum() > 0.95


@pytest.mark.parametrize("limit", [0.02, 0.05, 0.1])
def test_without_a_loss_about_as_many_images_are_needed_as_the_binomial_takes(limit):
    """The rule of three: log(.05) / log(1 - limit) images without a loss exclude one as large as the limit."""
    images = np.arange(1.0, 400.0)
    passes = p_below(np.zeros(399), np.zeros(399), images, limit) <= 0.05
    least = float(np.ceil(np.log(0.05) / np.log1p(-limit)))
    assert least <= images[passes].min() <= 1.5 * least
    assert passes[np.argmax(passes) :].all()
    assert not (p_below(np.zeros(399), np.zeros(399), images, limit) < binom.cdf(0, images, limit)).any()


def test_no_images_show_nothing():
    none = np.zeros(1)
    assert p_below(none, none, none, 0.05) == 1
    assert p_above_zero(none, none) == 1
    assert np.isnan(interval(none, none, none)).all()
