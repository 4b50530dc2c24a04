"""Least squares of a sweep over several factors: effects, interactions and means, with seeds as blocks.

The model of a figure y under seed s and the combination c of levels is

    y(s, c) = mu + seed(s) + mean(c) + noise,    noise ~ N(0, sigma^2), independent.

Where every combination has a figure, mean(c) is free: all interactions are in the model, and the noise is what the
seeds disagree about. Else mean(c) is a sum of main effects and interactions of two factors, those of which every pair
of levels was seen, and the interactions that are left out count as noise. Effects are differences of marginal means
that weigh the levels of all other factors equally, whatever is missing (type III). Source: Searle, Speed and Milliken
1980, "Population marginal means in the linear model"; Fisher 1935, "The Design of Experiments".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from atomiclm.comparison.statistics import POWER, Estimate, f_power, fewest, smallest, t_power

Levels = tuple[int, ...]
"""A combination: for each factor the index of its level."""

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class FTest:
    """A test that several contrasts are zero at once: F = (Lb)' (L (X'X)^- L')^-1 (Lb) / (q s^2), q and df degrees."""

    statistic: float
    numerator: int
    denominator: int

    def p(self) -> float:
        """P(F' > F) where there is no effect."""
        from scipy.special import fdtrc

        return float(fdtrc(self.numerator, self.denominator, self.statistic))


class Factorial:
    """What the figures of a sweep can say about its factors.

    Attributes:
        sizes: the number of levels of each factor.
        is_full: whether every combination has a figure, so that all interactions are in the model.
        degrees_of_freedom: of the noise: figures less parameters that can be estimated. 0: there is no error bar.
        deviation: sigma, the estimated standard deviation of the noise; NaN without degrees of freedom.

    Args:
        figures: for each combination the figure by seed; at least one.
        sizes: levels of each factor, at least two of each.
    """

    def __init__(self, figures: Mapping[Levels, Mapping[int, float]], sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self._grid = list(product(*map(range, sizes)))
        self._figures = {levels: own for levels, own in figures.items() if own}
        seeds = sorted({seed for own in self._figures.values() for seed in own})
        rows = [(levels, seed, value) for levels, own in self._figures.items() for seed, value in own.items()]
        self.is_full = len(self._figures) == len(self._grid)
        self._treatments = np.eye(len(self._grid)) if self.is_full else self._hierarchical()
        blocks = _sum_coded(len(seeds))
        where = {levels: index for index, levels in enumerate(self._grid)}
        treated = self._treatments[[where[levels] for levels, _, _ in rows]]
        design = np.hstack([treated, blocks[[seeds.index(seed) for _, seed, _ in rows]]])
        # Figures far from zero would lose digits: all contrasts, and the noise, are of what is left of their mean.
        self._shift = float(np.mean([value for _, _, value in rows]))
        values = np.array([value for _, _, value in rows]) - self._shift
        u, s, vt = np.linalg.svd(design, full_matrices=False)
        rank = int((s > s[0] * _TOLERANCE).sum())
        u, s, vt = u[:, :rank], s[:rank], vt[:rank]
        self._rows = vt
        self._scaled = vt.T / s  # (X'X)^- = scaled scaled'
        self._parameters = self._scaled @ (u.T @ values)
        self.degrees_of_freedom = len(rows) - rank
        residual = values - u @ (u.T @ values)
        self._rounding = 1e-13 * (abs(self._shift) + float(np.abs(values).max()))
        free = self.degrees_of_freedom
        self.deviation = self._rounded(float(np.sqrt(residual @ residual / free))) if free else float("nan")

    def effect(self, factor: int, level: int, at: Mapping[int, int] | None = None) -> Estimate | None:
        """The marginal mean of a level less that of the first, other factors held at `at` or else averaged over.

        None where it cannot be estimated. Its `standard_error` is NaN where the noise cannot.
        """
        fixed = dict(at or {})
        return self._estimate(self._marginal(fixed | {factor: level}) - self._marginal(fixed | {factor: 0}))

    def difference(self, one: Levels, other: Levels) -> Estimate | None:
        """The mean of one combination less that of another."""
        return self._estimate(self._marginal(dict(enumerate(one))) - self._marginal(dict(enumerate(other))))

    def mean(self, at: Mapping[int, int]) -> Estimate | None:
        """The marginal mean at the given levels of some factors, over equal shares of these seeds; None as for effects.

        Its error is of the runs alone, not of the choice of seeds, which all means share.
        """
        found = self._estimate(self._marginal(at))
        return replace(found, mean=self._shift + found.mean) if found else None

    def interaction(self, one: int, other: int) -> FTest | None:
        """The test that the effect of one factor is the same at all levels of the other, averaged over all else.

        None where it is not in the model, cannot be estimated, or the noise cannot.
        """
        if not self.degrees_of_freedom or not (self.is_full or (one, other) in self.in_model):
            return None
        contrasts = np.array([
            self._marginal({one: i, other: j}) - self._marginal({one: i, other: 0})
            - self._marginal({one: 0, other: j}) + self._marginal({one: 0, other: 0})
            for i in range(1, self.sizes[one]) for j in range(1, self.sizes[other])
        ])  # fmt: skip
        weights = np.array([self._parameters_of(contrast) for contrast in contrasts])
        if not all(map(self._is_estimable, weights)):
            return None
        found, spread = weights @ self._parameters, weights @ self._scaled
        square = float(found @ np.linalg.solve(spread @ spread.T, found)) / len(weights)
        if self.deviation == 0:
            return FTest(np.inf if self._rounded(square**0.5) else 0.0, len(weights), self.degrees_of_freedom)
        return FTest(square / self.deviation**2, len(weights), self.degrees_of_freedom)

    @cached_property
    def in_model(self) -> list[tuple[int, int]]:
        """The pairs of factors of which every pair of levels has a figure, so that their interaction is estimated."""
        return [
            (one, other)
            for one, other in combinations(range(len(self.sizes)), 2)
            if len({(levels[one], levels[other]) for levels in self._figures}) == self.sizes[one] * self.sizes[other]
        ]

    def _hierarchical(self) -> NDArray[np.float64]:
        """For each combination: one, the main effects, and the interactions of two factors, coded to sum to zero."""
        grid = np.array(self._grid)
        mains = [_sum_coded(size)[grid[:, factor]] for factor, size in enumerate(self.sizes)]
        crossed = [
            (mains[one][:, :, None] * mains[other][:, None, :]).reshape(len(grid), -1) for one, other in self.in_model
        ]
        return np.hstack([np.ones((len(grid), 1)), *mains, *crossed])

    def _marginal(self, at: Mapping[int, int]) -> NDArray[np.float64]:
        """Equal weights for all combinations that have these levels."""
        weights = np.array([all(levels[factor] == level for factor, level in at.items()) for levels in self._grid])
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def _parameters_of(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of combinations as weights of parameters; equal shares of the seeds are zero by their coding."""
        treated = weights @ self._treatments
        return np.concatenate([treated, np.zeros(len(self._parameters) - len(treated))])

    def _is_estimable(self, weights: NDArray[np.float64]) -> bool:
        """Whether the weights of parameters are a combination of the rows of the design."""
        return float(np.abs(weights - self._rows.T @ (self._rows @ weights)).max()) < 1e-7

    def _estimate(self, contrast: NDArray[np.float64]) -> Estimate | None:
        weights = self._parameters_of(contrast)
        if not self._is_estimable(weights):
            return None
        error = self.deviation * float(np.linalg.norm(weights @ self._scaled))
        return Estimate(self._rounded(float(weights @ self._parameters)), error, self.degrees_of_freedom)

    def _rounded(self, value: float) -> float:
        """Zero for what only rounding left: figures that do not depend on the seed have certain effects."""
        return value if abs(value) > self._rounding else 0.0


@dataclass(frozen=True)
class PlannedSweep:
    """What a sweep will find in which every combination has every seed, p values adjusted by Bonferroni at least."""

    sizes: Sequence[int]
    seeds: int
    deviation: float  # of the noise of one run
    alpha: float = 0.05

    def effect_power(self, factor: int, difference: float) -> float:
        """The chance that a level is found to differ from the first by `difference`, averaged over all else."""
        pairs = self.seeds * math.prod(self.sizes) / self.sizes[factor]
        asked = sum(self.sizes) - len(self.sizes)
        noncentrality = abs(difference) * math.sqrt(pairs / 2) / self.deviation
        return t_power(noncentrality, self.degrees_of_freedom, self.alpha / asked)

    def interaction_power(self, one: int, other: int, difference: float) -> float:
        """The chance that two factors are found to interact, one combination of which is off their sum by `difference`.

        F' has noncentrality n difference^2 (1 - 1/a) (1 - 1/b) / sigma^2, n runs a combination of the two.
        """
        a, b = self.sizes[one], self.sizes[other]
        runs = self.seeds * math.prod(self.sizes) / (a * b)
        noncentrality = runs * difference**2 * (1 - 1 / a) * (1 - 1 / b) / self.deviation**2
        asked = math.comb(len(self.sizes), 2)
        return f_power(noncentrality, (a - 1) * (b - 1), self.degrees_of_freedom, self.alpha / asked)

    def detectable_effect(self, factor: int) -> float:
        """The smallest effect that is found in a share POWER of sweeps."""
        return smallest(lambda difference: self.effect_power(factor, difference) >= POWER)

    def detectable_interaction(self, one: int, other: int) -> float:
        """The same of an interaction."""
        return smallest(lambda difference: self.interaction_power(one, other, difference) >= POWER)

    def seeds_needed(self, factor: int, difference: float) -> int:
        """The fewest seeds with which an effect is found in a share POWER of sweeps."""
        return fewest(lambda seeds: replace(self, seeds=seeds).effect_power(factor, difference) >= POWER)

    @property
    def degrees_of_freedom(self) -> int:
        """Of the noise: what the seeds disagree about."""
        return (self.seeds - 1) * (math.prod(self.sizes) - 1)


def _sum_coded(size: int) -> NDArray[np.float64]:
    """Indicators of all levels but the first, which is minus one in all: each effect is against the mean of all."""
    return np.vstack([-np.ones((1, size - 1)), np.eye(size - 1)])
