"""What is said of a sweep over several factors."""

import itertools

import numpy as np
import pytest

from atomiclm.comparison.factors import ArmFigures, factor_report
from atomiclm.comparison.verdicts import Rules
from atomiclm.sweep.factors import Factor

FACTORS = [
    Factor("kv", "model.attention.num_kv_heads", ["1", "4"]),
    Factor("theta", "model.position.theta", ["1e3", "1e5"]),
    Factor("feedforward", "model/feedforward", ["swiglu", "gelu"]),
]


def sweep(mean, seeds=2, noise=0.01, factors=FACTORS, seed=2):
    """Figures with noise of seeds and of runs around `mean(levels)`."""
    generator = np.random.default_rng(seed)
    blocks = generator.normal(0, 0.1, size=seeds)
    return {
        " ".join(factor.label(factor.levels[index]) for factor, index in zip(factors, levels, strict=True)): ArmFigures(
            levels, {s: 2 + mean(*levels) + blocks[s] + generator.normal(0, noise) for s in range(seeds)}
        )
        for levels in itertools.product(*(range(len(factor.levels)) for factor in factors))
    }


def verdicts(report):
    return {f"{effect.factor} {effect.level}": effect.verdict for effect in report.effects}


def test_a_factor_gets_its_verdict_from_the_pairs_of_all_other_combinations():
    report = factor_report(FACTORS, sweep(lambda kv, theta, option: -0.45 * option), Rules())
    assert verdicts(report) == {"kv 4": "inconclusive", "theta 1e5": "inconclusive", "feedforward gelu": "better"}
    effect = report.effects[2]
    assert (effect.pairs, effect.degrees_of_freedom, effect.against) == (8, 7, "swiglu")
    assert effect.low < -0.45 < effect.high < -0.4
    assert not any(one.is_present for one in report.interactions)
    assert report.best.endswith("gelu")
    assert all(name.endswith("gelu") for name in report.may_be_best)


def test_the_direction_of_the_metric_decides_which_is_better_and_best():
    arms = sweep(lambda kv, theta, option: -0.45 * option)
    report = factor_report(FACTORS, arms, Rules(direction="higher"))
    assert verdicts(report)["feedforward gelu"] == "worse"
    assert report.best.endswith("swiglu")
    assert all(name.endswith("swiglu") for name in report.may_be_best)


def test_an_interaction_is_there_with_its_simple_effects_and_notes_the_main_effects():
    report = factor_report(FACTORS, sweep(lambda kv, theta, option: -0.3 * option * kv), Rules())
    present = [one for one in report.interactions if one.is_present]
    assert [one.factors for one in present] == [("kv", "feedforward")]
    simple = {(effect.factor, effect.at): effect.verdict for effect in present[0].effects}
    assert simple == {
        ("kv", "swiglu"): "inconclusive",
        ("kv", "gelu"): "better",
        ("feedforward", "kv1"): "inconclusive",
        ("feedforward", "kv4"): "better",
    }
    assert {effect.factor: effect.note for effect in report.effects} == {
        "kv": "depends on feedforward: an average over its levels",
        "theta": "",
        "feedforward": "depends on kv: an average over its levels",
    }


def test_a_difference_within_the_margin_is_equivalent():
    report = factor_report(FACTORS, sweep(lambda *levels: 0.0, seeds=4), Rules(margin=0.05))
    assert set(verdicts(report).values()) == {"equivalent"}


def test_a_level_that_diverges_where_the_first_does_not_has_diverged():
    arms = sweep(lambda kv, theta, option: -0.45 * option)
    for name in ("kv4 theta1e3 swiglu", "kv4 theta1e3 gelu"):
        arms[name] = ArmFigures(arms[name].levels, {}, [0, 1])
    report = factor_report(FACTORS, arms, Rules())
    # theta 1e5 has a figure where theta 1e3 diverged; swiglu and gelu diverged alike.
    assert verdicts(report) == {"kv 4": "diverged", "theta 1e5": "inconclusive", "feedforward gelu": "better"}
    notes = [effect.note for effect in report.effects]
    assert notes == ["diverged in 4 of 8 pairs where kv1 did not", "theta1e3 diverged in 4 of 8 pairs", ""]
    assert not report.is_full
    kv_theta = report.interactions[0]
    assert kv_theta.p is None
    assert kv_theta.note == "no run of kv4 theta1e3 has a figure"


def test_a_level_without_a_figure_is_left_out_and_said():
    factors = [Factor("lr", "optim.lr", ["0.01", "0.1", "1"]), *FACTORS[1:]]
    arms = sweep(lambda lr, theta, option: -0.45 * option, factors=factors)
    arms = {name: ArmFigures(arm.levels, {}, [0, 1]) if "lr1" in name else arm for name, arm in arms.items()}
    report = factor_report(factors, arms, Rules())
    assert report.notes[0] == "lr 1: all 8 runs that ended diverged"
    assert list(verdicts(report)) == ["lr 0.1", "theta 1e5", "feedforward gelu"]


def test_one_seed_has_effects_and_no_verdict():
    report = factor_report(FACTORS, sweep(lambda kv, theta, option: -0.45 * option, seeds=1), Rules())
    assert set(verdicts(report).values()) == {"inconclusive"}
    assert report.effects[2].mean == pytest.approx(-0.45, abs=0.02)
    assert report.effects[2].p is None
    assert report.deviation is None
    assert report.notes == ["no combination has two seeds with a figure: effects have no error bar (seed=1,2,3)"]


def test_of_a_sweep_that_was_stopped_what_can_be_read_is():
    """All of seed 0, half of seed 1; then the first three runs alone."""
    arms = sweep(lambda kv, theta, option: -0.45 * option)
    names = list(arms)
    half = {
        name: ArmFigures(arm.levels, {seed: arm.figures[seed] for seed in ((0, 1) if names.index(name) < 4 else (0,))})
        for name, arm in arms.items()
    }
    report = factor_report(FACTORS, half, Rules())
    assert verdicts(report)["feedforward gelu"] == "better"
    assert report.effects[2].degrees_of_freedom == 3
    first = {name: half[name] if names.index(name) < 3 else ArmFigures(half[name].levels, {}) for name in names}
    report = factor_report(FACTORS, first, Rules())
    assert report.notes[0] == "kv 4: no run has ended"
    assert [effect.factor for effect in report.effects] == ["theta", "feedforward"]


def test_fewer_than_two_factors_are_no_sweep_of_factors():
    arms = {name: arm for name, arm in sweep(lambda *levels: 0.0).items() if arm.levels[1:] == (0, 0)}
    assert factor_report(FACTORS, arms, Rules()) is None


@pytest.mark.parametrize("truth", [0.0, 0.02])
def test_the_arms_that_may_be_best_hold_the_best_one(truth):
    missed = 0
    for seed in range(400):
        report = factor_report(FACTORS[:2], sweep(lambda kv, theta: -truth * kv, 3, 0.02, FACTORS[:2], seed), Rules())
        missed += "kv4 theta1e3" not in report.may_be_best
    assert missed / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
