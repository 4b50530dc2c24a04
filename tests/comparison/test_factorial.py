"""The least squares of sweeps: against statsmodels' OLS and its ANOVA, and by simulation."""

import itertools
import warnings

import numpy as np
import pytest

from atomiclm.comparison.factorial import Factorial, PlannedSweep
from atomiclm.comparison.statistics import holm

NAMES = "abcd"


def designs(number):
    """Random sweeps: `sizes` of the factors and figures by combination and seed; every second one has holes."""
    generator = np.random.default_rng(0)
    for index in range(number):
        sizes = tuple(int(size) for size in generator.integers(2, 5, size=generator.integers(2, 5)))
        if np.prod(sizes) > 48:
            sizes = sizes[:2]
        seeds = int(generator.integers(2, 6))
        blocks = generator.normal(0, 3, size=seeds)
        figures = {}
        for levels in itertools.product(*map(range, sizes)):
            mean = 2.0 + generator.normal()
            figures[levels] = {
                seed: float(mean + blocks[seed] + generator.normal(0, 0.3))
                for seed in range(seeds)
                if index % 2 == 0 or generator.random() < 0.8
            }
        for levels in list(figures):
            figures[levels] = figures[levels] or {0: 2.0}
            rest = [other for other in figures if other != levels]
            seen = all({other[f] for other in rest} == set(range(size)) for f, size in enumerate(sizes))
            if index % 4 == 3 and seen and generator.random() < 0.3:  # the whole combination diverged
                del figures[levels]
        yield sizes, figures


def fit_statsmodels(fit, sizes, figures):
    pandas = pytest.importorskip("pandas")
    from statsmodels.formula.api import ols

    factors = [f"C({NAMES[index]}, Sum)" for index in range(len(sizes))]
    if fit.is_full:
        treatment = "*".join(factors)
    else:
        treatment = "+".join([*factors, *(f"{factors[one]}:{factors[other]}" for one, other in fit.in_model)])
    rows = [
        {**dict(zip(NAMES, levels, strict=False)), "seed": seed, "y": value}
        for levels, own in figures.items()
        for seed, value in own.items()
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # designs with holes may lack rank
        return ols(f"y ~ C(seed, Sum) + {treatment}", pandas.DataFrame(rows)).fit()


def rows_of(found, sizes, seeds):
    """The design's rows of all combinations, averaged over seeds."""
    pandas = pytest.importorskip("pandas")
    data = found.model.data
    info = data.model_spec if hasattr(data, "model_spec") else data.design_info  # statsmodels 0.15 renamed it
    from patsy import dmatrix

    grid = list(itertools.product(*map(range, sizes)))
    table = pandas.DataFrame(
        [{**dict(zip(NAMES, levels, strict=False)), "seed": seed} for levels in grid for seed in seeds]
    )
    matrix = np.asarray(dmatrix(info, table))
    return grid, matrix.reshape(len(grid), len(seeds), -1).mean(axis=1)


def test_effects_and_interactions_are_statsmodels_on_fifty_random_designs():
    from statsmodels.stats.anova import anova_lm

    effects = interactions = tried = 0
    for sizes, figures in designs(60):
        fit = Factorial(figures, sizes)
        found = fit_statsmodels(fit, sizes, figures)
        seeds = sorted({seed for own in figures.values() for seed in own})
        grid, rows = rows_of(found, sizes, seeds)
        is_of_full_rank = np.linalg.matrix_rank(found.model.exog) == found.model.exog.shape[1]
        assert fit.degrees_of_freedom == found.df_resid
        if not fit.degrees_of_freedom:
            continue
        tried += 1
        assert fit.deviation == pytest.approx(np.sqrt(found.mse_resid), rel=1e-9)
        for factor, size in enumerate(sizes):
            for level in range(1, size):
                effect = fit.effect(factor, level)
                if effect is None:
                    assert not is_of_full_rank
                    continue
                own = np.array([levels[factor] == level for levels in grid])
                first = np.array([levels[factor] == 0 for levels in grid])
                test = found.t_test(rows[own].mean(axis=0) - rows[first].mean(axis=0))
                assert effect.mean == pytest.approx(test.effect.item(), rel=1e-9, abs=1e-9)
                assert effect.standard_error == pytest.approx(test.sd.item(), rel=1e-9)
                assert effect.p() == pytest.approx(test.pvalue.item(), rel=1e-9, abs=1e-12)
                assert effect.interval(0.05) == pytest.approx(test.conf_int(0.05)[0], rel=1e-9, abs=1e-9)
                effects += 1
        if not is_of_full_rank:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = anova_lm(found, typ=3)
        for one, other in itertools.combinations(range(len(sizes)), 2):
            test = fit.interaction(one, other)
            if test is None:
                assert (one, other) not in fit.in_model
                continue
            row = table.loc[f"C({NAMES[one]}, Sum):C({NAMES[other]}, Sum)"]
            assert (test.numerator, test.denominator) == (row["df"], found.df_resid)
            assert test.statistic == pytest.approx(row["F"], rel=1e-9)
            assert test.p() == pytest.approx(row["PR(>F)"], rel=1e-9, abs=1e-12)
            interactions += 1
    assert tried >= 50
    assert effects > 150
    assert interactions > 80


def test_the_effect_of_a_balanced_sweep_is_the_mean_of_its_paired_differences():
    generator = np.random.default_rng(1)
    figures = {
        levels: {seed: float(generator.normal()) for seed in (1, 2)} for levels in itertools.product((0, 1), repeat=3)
    }
    fit = Factorial(figures, (2, 2, 2))
    pairs = [
        figures[(a, b, 1)][seed] - figures[(a, b, 0)][seed] for a, b, seed in itertools.product((0, 1), (0, 1), (1, 2))
    ]
    assert len(pairs) == 8
    effect = fit.effect(2, 1)
    assert effect is not None
    assert effect.degrees_of_freedom == 7
    assert effect.mean == pytest.approx(np.mean(pairs))


def test_what_was_not_seen_is_not_estimated():
    full = {levels: {1: 1.0, 2: 1.1} for levels in itertools.product((0, 1), repeat=2)}
    fit = Factorial({levels: own for levels, own in full.items() if levels != (1, 1)}, (2, 2))
    assert not fit.is_full
    assert fit.interaction(0, 1) is None
    assert fit.effect(0, 1) is not None  # of a sum of main effects
    confounded = Factorial({(0, 0): {1: 1.0, 2: 1.1}, (1, 1): {1: 2.0, 2: 2.1}}, (2, 2))
    assert confounded.effect(0, 1) is None
    assert confounded.effect(1, 1) is None
    assert confounded.difference((1, 1), (0, 0)).mean == pytest.approx(1.0)
    one_seed = Factorial({levels: {1: float(sum(levels))} for levels in full}, (2, 2))
    assert one_seed.degrees_of_freedom == 0
    assert one_seed.effect(0, 1).mean == pytest.approx(1.0)


def test_figures_that_do_not_depend_on_the_seed_have_certain_effects():
    figures = {(a, b): {1: 3.0 + 0.1 * a, 2: 3.2 + 0.1 * a} for a in (0, 1) for b in (0, 1)}
    fit = Factorial(figures, (2, 2))
    assert fit.deviation == 0
    assert fit.effect(0, 1).p() == 0
    assert fit.effect(1, 1).p() == 1


@pytest.mark.parametrize(("sizes", "seeds"), [((2, 2, 2), 2), ((2, 2, 2), 5), ((4, 3), 2), ((4, 3), 3)])
def test_sweeps_without_effects_have_few_false_verdicts(sizes, seeds):
    """At most 5 % of sweeps, within three standard deviations of a thousand, and not far below: no power is wasted."""
    generator = np.random.default_rng(7)
    grid = list(itertools.product(*map(range, sizes)))
    false_effects = false_interactions = 0
    for _ in range(1000):
        blocks = generator.normal(0, 2, size=seeds)
        figures = {levels: dict(enumerate(blocks + generator.normal(size=seeds))) for levels in grid}
        fit = Factorial(figures, sizes)
        p = [fit.effect(factor, level).p() for factor, size in enumerate(sizes) for level in range(1, size)]
        false_effects += min(holm(p)) < 0.05
        p = [fit.interaction(*pair).p() for pair in itertools.combinations(range(len(sizes)), 2)]
        false_interactions += min(holm(p)) < 0.05
    print(sizes, seeds, false_effects / 1000, false_interactions / 1000)
    assert 0.02 < false_effects / 1000 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    assert 0.02 < false_interactions / 1000 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize(("sizes", "seeds"), [((2, 2, 2), 2), ((2, 2, 2), 4), ((4, 3), 2), ((4, 3), 5)])
def test_what_is_there_is_found_as_often_as_planned(sizes, seeds):
    """A planted effect of the first factor, and one combination of the first two that is off their sum."""
    planned = PlannedSweep(sizes, seeds, deviation=1.0)
    effect, off = planned.detectable_effect(0), planned.detectable_interaction(0, 1)
    generator = np.random.default_rng(11)
    grid = list(itertools.product(*map(range, sizes)))
    found = {"effect": 0, "interaction": 0}
    for kind in found:
        for _ in range(1000):
            blocks = generator.normal(0, 2, size=seeds)
            figures = {}
            for levels in grid:
                mean = effect * (levels[0] == 1) if kind == "effect" else off * (levels[:2] == (1, 1))
                figures[levels] = dict(enumerate(mean + blocks + generator.normal(size=seeds)))
            fit = Factorial(figures, sizes)
            if kind == "effect":
                asked = [(factor, level) for factor, size in enumerate(sizes) for level in range(1, size)]
                found[kind] += holm([fit.effect(*one).p() for one in asked])[asked.index((0, 1))] < 0.05
            else:
                pairs = list(itertools.combinations(range(len(sizes)), 2))
                found[kind] += holm([fit.interaction(*pair).p() for pair in pairs])[0] < 0.05
    print(sizes, seeds, found, effect, off)
    assert found["effect"] / 1000 == pytest.approx(0.8, abs=0.05)
    assert found["interaction"] / 1000 == pytest.approx(0.8, abs=0.05)
