"""Verdicts: the rules one by one, and by simulation that they err no more often than they say."""

import math

import numpy as np
import pytest

from atomiclm.comparison.seeds import look_shares
from atomiclm.comparison.statistics import detectable_difference, seeds_needed
from atomiclm.comparison.verdicts import Rules, contrasts, outcome

SWEEPS = 1000
DIFFERENT = ("better", "worse")


def figures(values):
    return dict(enumerate(values, start=1))


def one(differences, *, diverged=0, others=(), **rules):
    """The contrast of an arm whose differences to the baseline are given; `others` are further arms."""
    baseline = figures([1.9, 1.93, 1.88, 1.91, 1.95, 1.9, 1.92, 1.89][: len(differences)])
    arm = {seed: baseline[seed] + difference for seed, difference in enumerate(differences, start=1)}
    arms = {"arm": arm} | {f"other{index}": values for index, values in enumerate(others)}
    return contrasts(baseline, arms, {"arm": diverged}, Rules(**rules))["arm"]


def test_a_clear_difference_is_better_or_worse_by_the_direction():
    assert one([-0.05, -0.06, -0.04]).verdict == "better"
    assert one([0.05, 0.06, 0.04]).verdict == "worse"
    assert one([0.05, 0.06, 0.04], direction="higher").verdict == "better"
    assert one([-0.05, -0.06, -0.04], direction="higher").verdict == "worse"


def test_equivalence_takes_a_margin_and_an_interval_within_it():
    small = [0.001, -0.001, 0.0005, 0.0]
    assert one(small, margin=0.01).verdict == "equivalent"
    assert one(small).verdict == "inconclusive"
    assert one([0.02, -0.02, 0.01, -0.01], margin=0.01).verdict == "inconclusive"


def test_a_certain_difference_below_the_margin_is_equivalent_and_its_note_says_so():
    tiny = one([0.0010, 0.0011, 0.0009, 0.0010], margin=0.01)
    assert tiny.p_holm < 0.05
    assert tiny.verdict == "equivalent"
    assert "certain but smaller than the margin of 0.01" in tiny.note
    assert one([0.0010, 0.0011, 0.0009, 0.0010]).verdict == "worse"


def test_a_certain_difference_that_may_exceed_the_margin_is_a_difference():
    found = one([0.012, 0.011, 0.013, 0.012], margin=0.012)
    assert (found.verdict, found.p_equivalence < 0.05) == ("worse", False)


def test_an_arm_that_diverged_has_no_other_verdict_and_no_p_that_counts():
    found = one([-0.05, -0.06, -0.04], diverged=1)
    assert (found.verdict, found.p_holm) == ("diverged", None)
    assert "of the seeds that ended" in found.note


@pytest.mark.parametrize("differences", [[], [-0.5]])
def test_fewer_than_two_pairs_are_inconclusive(differences):
    found = one(differences, margin=0.01)
    assert found.verdict == "inconclusive"
    assert (found.low, found.p, found.p_holm, found.p_equivalence, found.seeds_needed) == (None,) * 5
    assert math.isnan(found.mean) if not differences else found.mean == pytest.approx(-0.5)


def test_what_holds_for_one_arm_may_be_chance_among_many():
    differences = [0.05, 0.04, 0.07]
    alone = one(differences)
    among = one(differences, others=[figures([1.91, 1.92, 1.89])] * 4)
    assert (alone.verdict, among.verdict) == ("worse", "inconclusive")
    assert among.p == alone.p
    assert among.p_holm == pytest.approx(5 * alone.p)
    assert "a difference by itself" in among.note


def test_arms_without_runs_or_that_diverged_still_count_among_the_many():
    missing = one([0.05, 0.04, 0.07], others=[{}])
    assert missing.p_holm == pytest.approx(2 * missing.p)


def test_an_inconclusive_arm_says_how_many_seeds_it_takes():
    found = one([0.02, -0.02, 0.01], margin=0.01)
    assert found.seeds_needed == seeds_needed(found.deviation, 0.01, 0.05)
    assert f"not resolvable with 3 seeds: about {found.seeds_needed} are needed for a margin of 0.01" in found.note


def test_the_same_run_under_two_names_is_equivalent():
    found = one([0.0, 0.0, 0.0], margin=0.01)
    assert (found.verdict, found.p, found.mean) == ("equivalent", 1.0, 0.0)


def test_seeds_that_are_not_shared_are_two_samples():
    arms = {"arm": {11: 1.80, 12: 1.81, 13: 1.79}}
    found = contrasts({1: 1.9, 2: 1.91, 3: 1.89}, arms, {}, Rules())["arm"]
    assert (found.is_paired, found.verdict, found.seeds, found.differences) == (False, "better", [], [])
    assert found.mean == pytest.approx(-0.1)
    assert "not paired" in found.note


def test_pairs_are_by_seed_whatever_the_order():
    baseline, arm = {1: 1.0, 2: 2.0, 3: 3.0}, {3: 3.1, 1: 1.2, 7: 9.0, 2: 2.3}
    found = contrasts(baseline, {"arm": arm}, {}, Rules())["arm"]
    assert found.seeds == [1, 2, 3]
    assert found.differences == pytest.approx([0.2, 0.3, 0.1])
    assert found.correlation == pytest.approx(np.corrcoef([1.0, 2.0, 3.0], [1.2, 2.3, 3.1])[0, 1])


def test_pairing_that_bought_nothing_is_said():
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    arms = {"arm": figures([5.0, 4.0, 3.0, 2.0, 1.0])}
    assert "pairing by seed did not reduce the noise" in contrasts(figures(values), arms, {}, Rules())["arm"].note


def test_between_looks_the_verdict_is_that_of_the_last_look():
    rules = Rules(looks=[3, 5, 7])
    baseline = figures([1.9, 1.92, 1.91, 1.93, 1.9, 1.94])
    arm = {seed: value + 0.1 + 0.001 * seed for seed, value in baseline.items()}
    six = contrasts(baseline, {"arm": arm}, {}, rules)["arm"]
    five = contrasts(figures(list(baseline.values())[:5]), {"arm": arm}, {}, rules)["arm"]
    assert six.seeds == [1, 2, 3, 4, 5]
    assert (six.p, six.alpha) == (five.p, five.alpha)
    assert "first 5 of 6 seeds" in six.note
    assert five.alpha == pytest.approx(0.05 * look_shares([3, 5, 7])[1])
    assert five.p_holm == pytest.approx(five.p / look_shares([3, 5, 7])[1])
    early = contrasts(figures([1.9, 1.92]), {"arm": arm}, {}, rules)["arm"]
    assert (early.verdict, early.p) == ("inconclusive", None)
    assert "the first look is at 3 seeds" in early.note


@pytest.mark.parametrize(
    ("expected", "verdict", "all_diverged", "wanted"),
    [
        ("better", "better", False, "reproduced"),
        ("better", "worse", False, "contradicted"),
        ("better", "equivalent", False, "contradicted"),
        ("worse", "inconclusive", False, "unresolved"),
        ("equivalent", "equivalent", False, "reproduced"),
        ("equivalent", "better", False, "contradicted"),
        ("different", "worse", False, "reproduced"),
        ("different", "better", False, "reproduced"),
        ("different", "equivalent", False, "contradicted"),
        ("worse", "diverged", False, "unresolved"),
        ("worse", "diverged", True, "reproduced"),
        ("better", "diverged", True, "contradicted"),
    ],
)
def test_outcomes_of_predictions(expected, verdict, all_diverged, wanted):
    assert outcome(expected, verdict, all_diverged) == wanted


def sweeps(seeds, effects, correlation=0.5, number=SWEEPS, start=0):
    """Baseline and arms of simulated sweeps: noise of standard deviation 1, correlated between arms seed by seed."""
    generator = np.random.default_rng(start)
    for _ in range(number):
        common = math.sqrt(correlation) * generator.normal(size=seeds)
        own = math.sqrt(1 - correlation) * generator.normal(size=(len(effects) + 1, seeds))
        rows = (common + own).tolist()
        arms = {
            f"arm{index}": figures([value + effect for value in row])
            for index, (row, effect) in enumerate(zip(rows[1:], effects, strict=True))
        }
        yield figures(rows[0]), arms


@pytest.mark.one_in(3)
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_of_1000_sweeps_without_a_difference_at_most_5_per_cent_are_called_different(seeds):
    called = uncorrected = 0
    for baseline, arms in sweeps(seeds, [0.0, 0.0, 0.0]):
        found = contrasts(baseline, arms, {}, Rules(margin=1.0)).values()
        called += any(contrast.verdict in DIFFERENT for contrast in found)
        uncorrected += any(contrast.p < 0.05 for contrast in found)
    assert called <= 0.05 * SWEEPS
    assert uncorrected > 0.08 * SWEEPS, "without Holm the same sweeps would err too often"


@pytest.mark.slow
def test_a_true_difference_of_the_planned_size_is_found_in_at_least_80_per_cent():
    family, margin = 3, 0.9
    seeds = seeds_needed(1.0, margin, 0.05 / family)  # differences have sd 1 at a correlation of one half
    found = equivalent = 0
    for baseline, arms in sweeps(seeds, [margin, 0.0, -margin]):
        verdicts = contrasts(baseline, arms, {}, Rules(margin=margin))
        found += verdicts["arm0"].verdict == "worse"
        equivalent += verdicts["arm0"].verdict == "equivalent"
    assert found >= 0.8 * SWEEPS
    assert equivalent <= 0.07 * SWEEPS, "a difference as large as the margin is called equivalent in 5 % of studies"


LOOKS = [4, 8, 12, 16]


def at_look(baseline, arms, look):
    def first(values):
        return {seed: values[seed] for seed in range(1, look + 1)}

    return first(baseline), {name: first(values) for name, values in arms.items()}


def stopped(baseline, arms, rules, looks=LOOKS):
    """The verdicts at which a sequential study ends: with the first look at which every arm has one, or the last.

    An arm that has a verdict keeps it, as it is given no more seeds.
    """
    kept = {}
    for look in looks:
        found = contrasts(*at_look(baseline, arms, look), {}, rules)
        kept |= {name: one.verdict for name, one in found.items() if kept.get(name, "inconclusive") == "inconclusive"}
        if "inconclusive" not in kept.values():
            break
    return kept


@pytest.mark.slow
def test_looking_often_calls_at_most_5_per_cent_different_where_nothing_differs():
    called = 0
    for baseline, arms in sweeps(LOOKS[-1], [0.0, 0.0, 0.0], start=1):
        verdicts = stopped(baseline, arms, Rules(looks=LOOKS))
        called += any(verdict in DIFFERENT for verdict in verdicts.values())
    assert called <= 0.05 * SWEEPS


def test_looking_often_without_sharing_out_the_error_would_err_too_often():
    looks, called = list(range(2, 17, 2)), 0
    for baseline, arms in sweeps(looks[-1], [0.0], number=300, start=2):
        called += any(verdict in DIFFERENT for verdict in stopped(baseline, arms, Rules(), looks).values())
    assert called > 0.09 * 300


@pytest.mark.slow
def test_looking_often_finds_a_difference_of_the_planned_size_in_at_least_80_per_cent():
    rules = Rules(looks=LOOKS, margin=detectable_difference(1.0, LOOKS[-1], 0.05 * look_shares(LOOKS)[-1] / 3))
    found = 0
    for baseline, arms in sweeps(LOOKS[-1], [rules.margin, 0.0, 0.0], start=3):
        found += stopped(baseline, arms, rules)["arm0"] == "worse"
    assert found >= 0.8 * SWEEPS
