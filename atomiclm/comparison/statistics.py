"""Student's t and what is built on it: intervals, tests of a difference and of none, and how many seeds they take.

Only `scipy.special`, and that on first use: `scipy.stats` takes a second to import.
"""

import math
import statistics
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

POWER = 0.8
"""Share of studies in which a difference of the planned size is to be found (Cohen 1988, "Statistical Power Analysis
for the Behavioral Sciences")."""

_MOST_PAIRS = 10**9
_LARGEST_NONCENTRALITY = 1e100
"""Whose square is a number; what is larger is found as surely."""


@dataclass(frozen=True)
class Estimate:
    """A mean difference d with standard error s, such that (d - true difference) / s follows Student's t.

    `standard_error` may be 0 (figures that do not depend on the seed): then every question has a certain answer.
    """

    mean: float
    standard_error: float
    degrees_of_freedom: float

    def interval(self, alpha: float) -> tuple[float, float]:
        """d -+ t(1 - alpha/2) s, which holds the true difference in a share `1 - alpha` of studies."""
        half = self.half_width(alpha)
        return self.mean - half, self.mean + half

    def half_width(self, alpha: float) -> float:
        """t(1 - alpha/2) s."""
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees_of_freedom, 1 - alpha / 2)) * self.standard_error

    def p(self) -> float:
        """Two-sided: 2 P(T > |d| / s), the chance of so large a difference where there is none."""
        if self.standard_error == 0:
            return float(self.mean == 0)
        return 2 * self._below(-abs(self.mean) / self.standard_error)

    def p_equivalence(self, margin: float) -> float:
        """The larger p of two one-sided tests, of true difference <= -margin and of >= margin (TOST).

        It is below alpha exactly where the interval of `1 - 2 alpha` lies within the margins. Source: Schuirmann 1987,
        "A comparison of the two one-sided tests procedure and the power approach".
        """
        if self.standard_error == 0:
            return float(abs(self.mean) >= margin)
        return self._below((abs(self.mean) - margin) / self.standard_error)

    def _below(self, t: float) -> float:
        from scipy.special import stdtr

        return float(stdtr(self.degrees_of_freedom, t))


def one_sample(values: Sequence[float]) -> Estimate:
    """The mean of `values`, at least two; of paired differences it makes the paired t test ("Student" 1908).

    s = sd / sqrt(n) with divisor n - 1, n - 1 degrees of freedom.
    """
    assert len(values) > 1, "one value has no spread"
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(statistics.fmean(values), error, len(values) - 1)


def welch(ones: Sequence[float], others: Sequence[float]) -> Estimate:
    """Mean of `ones` less mean of `others`, independent samples of any two variances, at least two values each.

    s^2 = v1/n1 + v2/n2, with s^4 / ((v1/n1)^2 / (n1 - 1) + (v2/n2)^2 / (n2 - 1)) degrees of freedom. Source: Welch
    1947, "The generalization of 'Student's' problem when several different population variances are involved".
    """
    assert len(ones) > 1 < len(others), "one value has no spread"
    shares = [statistics.variance(sample) / len(sample) for sample in (ones, others)]
    squared = sum(shares)
    loss = sum(share**2 / (len(sample) - 1) for share, sample in zip(shares, (ones, others), strict=True))
    degrees = squared**2 / loss if loss else len(ones) + len(others) - 2
    return Estimate(statistics.fmean(ones) - statistics.fmean(others), math.sqrt(squared), degrees)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted so that the chance of any false difference among all of them is at most that of one.

    Sorted, the k-th smallest of m (k from 1) is multiplied by m - k + 1, and none may be smaller than one before it.
    Whatever the correlations. Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def correlation(ones: Sequence[float], others: Sequence[float]) -> float | None:
    """Pearson's r of pairs; None for fewer than three, or where one does not vary.

    The variance of a paired difference is v1 + v2 - 2 r sqrt(v1 v2): pairing pays by r, and by nothing where r is 0.
    """
    if len(ones) < 3 or len(set(ones)) == 1 or len(set(others)) == 1:
        return None
    return statistics.correlation(ones, others)


def power(difference: float, deviation: float, pairs: int, alpha: float = 0.05) -> float:
    """The chance that a paired t test finds a true difference; `deviation` is that of the paired differences."""
    return t_power(math.sqrt(pairs) * abs(difference) / deviation, pairs - 1, alpha)


def t_power(noncentrality: float, degrees: int, alpha: float = 0.05) -> float:
    """The chance that a two-sided t test finds what is there: P(|T'| > t(1 - alpha/2)).

    T' is noncentral t; its noncentrality is the true difference in standard errors.
    """
    from scipy.special import chdtr, nctdtr, stdtrit

    critical = float(stdtrit(degrees, 1 - alpha / 2))
    noncentrality = min(_LARGEST_NONCENTRALITY, noncentrality)
    if noncentrality > 1000:
        # nctdtr is no number here; only the spread of the deviation's estimate still matters, not that of the mean.
        return float(chdtr(degrees, degrees * (noncentrality / critical) ** 2))
    reversed_sign = float(nctdtr(degrees, noncentrality, -critical))
    if math.isnan(reversed_sign):  # nctdtr where the answer is next to nothing
        reversed_sign = 0.0
    return 1.0 - float(nctdtr(degrees, noncentrality, critical)) + reversed_sign


def f_power(noncentrality: float, numerator: int, denominator: int, alpha: float = 0.05) -> float:
    """The chance that an F test finds what is there: P(F' > F(1 - alpha)), F' noncentral F."""
    from scipy.special import fdtri, ncfdtr

    critical = float(fdtri(numerator, denominator, 1 - alpha))
    return 1.0 - float(ncfdtr(numerator, denominator, min(1e5, noncentrality), critical))


def seeds_needed(deviation: float, margin: float, alpha: float = 0.05) -> int:
    """The fewest pairs with which a paired t test finds a difference of `margin` in a share POWER of studies.

    A thousand million stands for all that are more: nobody trains so many.

    deviation: of the paired differences. One estimated from a few seeds is uncertain itself, and the answer with it.
    """
    return 2 if deviation == 0 else fewest(lambda pairs: power(margin, deviation, pairs, alpha) >= POWER)


def fewest(enough: Callable[[int], bool]) -> int:
    """The fewest seeds, at least 2, that are enough; a thousand million for all that are more."""
    high = 2
    while not enough(high):
        high *= 2
        if high > _MOST_PAIRS:
            return _MOST_PAIRS
    return bisect_left(range(high), True, lo=high // 2 + 1, key=enough)  # half of them are too few, or 1


def detectable_difference(deviation: float, pairs: int, alpha: float = 0.05) -> float:
    """The smallest true difference that a paired t test of so many pairs finds in a share POWER of studies."""
    return deviation * _detectable_deviations(pairs, alpha)


@cache
def _detectable_deviations(pairs: int, alpha: float) -> float:
    """The same in standard deviations of the differences; the same for all arms of a study."""
    return smallest(lambda difference: power(difference, 1.0, pairs, alpha) >= POWER)


def smallest(enough: Callable[[float], bool]) -> float:
    """The smallest positive number that is enough, by halving."""
    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
