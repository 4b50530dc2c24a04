"""Our statistics against scipy.stats and statsmodels, on published samples and on random ones."""

import math
import random
import statistics

import numpy as np
import pytest

from atomiclm.comparison.seeds import look_shares, planned_looks
from atomiclm.comparison.statistics import (
    Estimate,
    correlation,
    detectable_difference,
    holm,
    one_sample,
    power,
    seeds_needed,
    welch,
)
from atomiclm.sweep.study import Sequential, Study

# Extra hours of sleep of ten patients under two drugs: "Student" 1908, "The probable error of a mean", from Cushny and
# Peebles 1905. R has it as `sleep`.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def draws(number, size, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(number):
        common = generator.normal(size=size)
        scale, shift = 10.0 ** generator.uniform(-3, 3), generator.normal()
        ones = scale * (common + generator.normal(size=size))
        yield ones.tolist(), (ones * 0 + scale * (common + shift + generator.normal(size=size))).tolist()


def differences(ones, others):
    return [one - other for one, other in zip(ones, others, strict=True)]


def test_the_paired_t_test_of_students_sleep_data_is_the_published_one():
    estimate = one_sample(differences(SECOND, FIRST))
    assert estimate.mean == pytest.approx(1.58)
    assert estimate.mean / estimate.standard_error == pytest.approx(4.0621, abs=5e-5)
    assert estimate.p() == pytest.approx(0.002833, abs=5e-7)
    assert estimate.interval(0.05) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)


def test_welchs_test_of_students_sleep_data_is_the_published_one():
    estimate = welch(FIRST, SECOND)
    assert estimate.mean / estimate.standard_error == pytest.approx(-1.8608, abs=5e-5)
    assert estimate.degrees_of_freedom == pytest.approx(17.776, abs=5e-4)
    assert estimate.p() == pytest.approx(0.07939, abs=5e-6)


def test_eighty_runs_of_modded_nanogpt_beat_their_target_as_their_record_says():
    """Validation losses of the record of 2025-01-04: mean 3.27914, sd 0.00191, p = 0.0001 one-sided against 3.28."""
    estimate = Estimate(3.27914 - 3.28, 0.00191 / math.sqrt(80), 79)
    assert round(estimate.p() / 2, 4) == 0.0001


def test_shazeers_table_of_gated_networks_is_far_from_chance():
    """ReLU 1.997 (sd 0.005) and GEGLU 1.942 (0.004), 4 runs each: Shazeer 2020, arXiv 2002.05202, table 1."""
    from scipy import stats

    shape = np.array([-1.0, -0.2, 0.1, 1.1])
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    ours = welch((1.997 + 0.005 * shape).tolist(), (1.942 + 0.004 * shape).tolist())
    theirs = stats.ttest_ind_from_stats(1.997, 0.005, 4, 1.942, 0.004, 4, equal_var=False)
    assert ours.p() == pytest.approx(theirs.pvalue)
    assert ours.p() < 1e-5


@pytest.mark.parametrize("size", [2, 3, 5, 30])
def test_paired_and_welch_equal_scipy(size):
    from scipy import stats

    for ones, others in draws(30, size, seed=size):
        paired = stats.ttest_rel(ones, others)
        ours = one_sample(differences(ones, others))
        assert ours.p() == pytest.approx(paired.pvalue, rel=1e-9)
        for alpha in (0.05, 0.003):
            interval = paired.confidence_interval(1 - alpha)
            assert ours.interval(alpha) == pytest.approx((interval.low, interval.high), rel=1e-9)
        unpaired = stats.ttest_ind(ones, others[:-1] if size > 2 else others, equal_var=False)
        ours = welch(ones, others[:-1] if size > 2 else others)
        assert ours.p() == pytest.approx(unpaired.pvalue, rel=1e-9)
        assert ours.degrees_of_freedom == pytest.approx(unpaired.df, rel=1e-9)
        interval = unpaired.confidence_interval(0.9)
        assert ours.interval(0.1) == pytest.approx((interval.low, interval.high), rel=1e-9)


@pytest.mark.parametrize("size", [3, 8])
def test_equivalence_equals_statsmodels_and_the_interval_of_ninety_per_cent(size):
    from statsmodels.stats.weightstats import ttost_ind, ttost_paired

    for ones, others in draws(30, size, seed=100 + size):
        spread = statistics.stdev(ones)
        for margin in (0.3 * spread, 1.5 * spread, 4 * spread):
            ours = one_sample(differences(ones, others))
            theirs = ttost_paired(np.array(ones), np.array(others), -margin, margin)[0]
            assert ours.p_equivalence(margin) == pytest.approx(theirs, rel=1e-9)
            low, high = ours.interval(0.1)
            assert (ours.p_equivalence(margin) < 0.05) == (-margin < low and high < margin)
            unpaired = ttost_ind(np.array(ones), np.array(others), -margin, margin, usevar="unequal")[0]
            assert welch(ones, others).p_equivalence(margin) == pytest.approx(unpaired, rel=1e-9)


def test_holm_equals_statsmodels_ties_and_ones_included():
    from statsmodels.stats.multitest import multipletests

    generator = random.Random(0)
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    for size in (1, 2, 7, 30):
        p_values = [generator.choice([generator.random() ** 4, 0.02, 1.0]) for _ in range(size)]
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_correlation_equals_scipy_and_is_none_where_there_is_none():
    from scipy import stats

    for ones, others in draws(5, 6):
        assert correlation(ones, others) == pytest.approx(stats.pearsonr(ones, others).statistic)
    assert correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_power_and_the_seeds_it_takes_equal_statsmodels():
    from statsmodels.stats.power import TTestPower

    theirs = TTestPower()
    for alpha in (0.05, 0.01):
        for pairs in (2, 3, 5, 16):
            for effect in (0.1, 0.7, 1.2):  # from about 2 on scipy's noncentral t, and so theirs, is no number
                wanted = theirs.power(effect, pairs, alpha)
                assert power(0.02 * effect, 0.02, pairs, alpha) == pytest.approx(wanted, abs=1e-9)
        for effect in (3.0, 1.0, 0.5, 0.1):
            wanted = theirs.solve_power(effect, None, alpha, 0.8)
            assert seeds_needed(1.0, effect, alpha) == math.ceil(wanted)
        for pairs in (4, 10, 20):
            # Their own solver walks into that region; their power at our answer does not.
            assert theirs.power(detectable_difference(1.0, pairs, alpha), pairs, alpha) == pytest.approx(0.8)


def test_the_table_of_detectable_differences_is_what_simulation_found():
    """In standard deviations of the differences, for n = 3 ... 20 seeds, 80 % power at 5 %."""
    found = [detectable_difference(1.0, n) for n in (2, 3, 4, 5, 6, 8, 10, 16, 20)]
    assert found == pytest.approx([11.5, 3.27, 2.13, 1.68, 1.43, 1.16, 1.00, 0.75, 0.66], rel=0.01)
    assert [seeds_needed(0.010, margin) for margin in (0.03, 0.02, 0.01, 0.005)] == [4, 5, 10, 34]


def test_power_is_a_probability_however_extreme_the_question():
    generator = random.Random(0)
    for _ in range(3000):
        difference, alpha = 10 ** generator.uniform(-6, 8), 10 ** generator.uniform(-12, -1)
        assert -1e-12 <= power(difference, 1.0, generator.choice([2, 3, 5, 20, 1000]), alpha) <= 1 + 1e-12
    assert power(0.0, 1.0, 5) == pytest.approx(0.05)
    assert seeds_needed(1e-12, 1.0) == 2
    assert detectable_difference(1.0, 2, 1e-6) == pytest.approx(math.sqrt(2) / 2 * 8.2e5, rel=0.02)


def test_figures_without_noise_have_certain_answers():
    same, other = one_sample([0.0, 0.0]), one_sample([2.0, 2.0])
    assert (same.p(), same.p_equivalence(1.0), same.interval(0.05)) == (1.0, 0.0, (0.0, 0.0))
    assert (other.p(), other.p_equivalence(1.0), other.p_equivalence(3.0)) == (0.0, 1.0, 0.0)
    assert welch([1.0, 1.0], [3.0, 3.0]).p() == 0.0
    assert (seeds_needed(0.0, 0.1), detectable_difference(0.0, 3)) == (2, 0.0)


def looks_of(seeds, step, max_seeds):
    return planned_looks(Study(seeds=list(range(seeds)), sequential=Sequential(max_seeds, step)))


def test_looks_share_out_all_of_the_chance_of_error_and_little_of_it_early():
    for looks in ([3, 5, 7, 9], [2, 12], [4], looks_of(3, 2, 12)):
        shares = look_shares(looks)
        assert math.fsum(shares) == pytest.approx(1.0)
        assert all(share > 0 for share in shares)
    assert looks_of(3, 2, 12) == [3, 5, 7, 9, 11, 12]
    assert looks_of(4, 2, 4) == [4]


def test_the_spending_function_is_that_of_lan_and_demets():
    """Increments of 2 - 2 Phi(z / sqrt(t)) at quarters, for 5 % two-sided."""
    from scipy import stats

    z = stats.norm.ppf(0.975)
    spent = [2 * stats.norm.sf(z / math.sqrt(t)) for t in (0.25, 0.5, 0.75, 1.0)]
    wanted = np.diff([0.0, *spent]) / spent[-1]
    assert look_shares([5, 10, 15, 20]) == pytest.approx(wanted.tolist())
