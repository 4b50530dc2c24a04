"""How many seeds: planned from the noise of a pilot, or added look by look in a sequential study."""

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from atomiclm.cli import UserError
from atomiclm.comparison.results import Arm, Comparison, FactorReport
from atomiclm.comparison.statistics import POWER, detectable_difference, seeds_needed
from atomiclm.sweep.study import Study, check_margin
from atomiclm.tracking.console import duration

WELL_KNOWN_PAIRS = 5
"""With fewer, a standard deviation is known to no better than a factor of two either way (chi-squared, 95 %)."""


@dataclass(frozen=True)
class SeedsRow:
    """What one arm takes. None where it is not known."""

    arm: str
    pairs: int  # seeds of the pilot it shares with the baseline
    # Of the paired differences; where the pilot has no pairs, sqrt(2) times the baseline's over seeds, as if pairing
    # bought nothing.
    deviation: float | None
    is_measured: bool  # from pairs
    seeds: int | None  # to find a difference as large as the margin
    detectable: float | None  # smallest difference that the pilot's pairs find, at least two
    more_seconds: float | None  # of training for the seeds that the arm lacks, at the pace of its runs

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{self.arm}: fewer than 2 finished seeds; run at least 3 to see the noise"
        origin = f"{self.pairs} pairs" if self.is_measured else "the baseline's seeds, unpaired"
        parts = [f"{self.arm}: sd of differences {self.deviation:.2g} ({origin})"]
        if self.detectable is not None:
            parts.append(f"{self.pairs} seeds find {self.detectable:.2g}")
        if self.seeds is not None and self.more_seconds is not None:
            parts.append(f"{self.seeds} seeds needed, {duration(self.more_seconds)} more")
        if self.is_measured and self.pairs < WELL_KNOWN_PAIRS:
            parts.append("known roughly")
        return ", ".join(parts)


@dataclass(frozen=True)
class SeedsReport:
    """The plan."""

    rows: Sequence[SeedsRow]  # of every arm that is compared; of the baseline alone, one for any arm to come
    margin: float | None  # difference that is to be found; None where none was declared
    power: float  # share of studies that are to find it
    seeds: int | None  # that suffice for every arm; None where one of them is not known
    more_seconds: float | None  # of training for all arms and the baseline to have so many; None likewise

    def lines(self) -> Iterator[str]:
        """The plan in words, a line an arm."""
        if self.margin is None:
            yield "no margin was declared (study.margin, --margin); these are the differences that would be found"
        yield from map(str, self.rows)
        if self.seeds is not None and self.more_seconds is not None:
            yield (
                f"{self.seeds} seeds an arm find a difference of {self.margin:g} in {100 * self.power:.0f} % of "
                f"studies; {duration(self.more_seconds)} of training more"
            )


def seeds_report(comparison: Comparison, margin: float | None = None, power: float = POWER) -> SeedsReport:
    """Plan a study from what has ended of it.

    Args:
        comparison: of the pilot.
        margin: the study's where None.
        power: share of studies that are to find a difference of `margin`; 0.8 by convention.

    Raises:
        ValueError: a margin that is not positive and finite, or a power that is no share above alpha.
    """
    margin = comparison.margin if margin is None else margin
    if margin is not None:
        check_margin("margin=", margin)
    if not comparison.alpha < power < 1:
        raise UserError(f"power={power:g} is not between alpha={comparison.alpha:g} and 1; 0.8 is usual")
    base = next((arm for arm in comparison.arms if arm.name == comparison.baseline), None)
    compared = [arm for arm in comparison.arms if arm is not base]
    alpha = comparison.alpha / max(1, len(compared))
    spread = base.figures[comparison.metric].deviation if base else None
    unpaired = None if spread is None else math.sqrt(2) * spread
    rows = [_row(arm, unpaired, margin, power, alpha) for arm in compared or ([base] if base else [])]
    needed = [row.seeds for row in rows if row.seeds is not None]
    seeds = max(needed) if needed and len(needed) == len(rows) else None
    seconds = sum(_more_seconds(arm, seeds) for arm in comparison.arms) if seeds is not None else None
    return SeedsReport(rows, margin, power, seeds, seconds)


def _row(arm: Arm, unpaired: float | None, margin: float | None, power: float, alpha: float) -> SeedsRow:
    contrast = arm.contrast
    paired = contrast.deviation if contrast is not None and contrast.is_paired else None
    deviation = unpaired if paired is None else paired
    pairs = len(contrast.seeds) if contrast is not None else 0
    if deviation is None:
        return SeedsRow(arm.name, pairs, None, False, None, None, None)
    seeds = None if margin is None else seeds_needed(deviation, margin, alpha, power)
    detectable = detectable_difference(deviation, pairs, alpha, power) if pairs > 1 else None
    more = None if seeds is None else _more_seconds(arm, seeds)
    return SeedsRow(arm.name, pairs, deviation, paired is not None, seeds, detectable, more)


def _more_seconds(arm: Arm, seeds: int) -> float:
    """Of the runs that an arm lacks, each as long as the mean of those that ended."""
    seconds = [float(run.summary.get("seconds", 0.0)) for run in arm.runs]
    return max(0, seeds - len(seconds)) * statistics.fmean(seconds) if seconds else 0.0


def factor_lines(comparison: Comparison, report: FactorReport, power: float = POWER) -> Iterator[str]:
    """What a sweep over several factors finds with the seeds it has, and how many it takes to find the margin."""
    from atomiclm.comparison.factorial import PlannedSweep  # imports numpy, which `compare --help` can do without

    if report.deviation is None:
        yield "fewer than 2 finished seeds; run at least 3 to see the noise"
        return
    if not report.deviation:
        return  # figures that do not depend on the seed: everything that is there is found
    sizes = [len(factor.levels) for factor in report.factors]
    seeds, margin = max(len(arm.runs) for arm in comparison.arms), comparison.margin
    now = PlannedSweep(sizes, seeds, report.deviation, comparison.alpha)
    freedom = f"{report.degrees_of_freedom} degrees of freedom"
    yield f"noise of a run sd {report.deviation:.2g}, seeds apart ({freedom}); found in {100 * power:.0f} % of sweeps:"
    for index, factor in enumerate(report.factors):
        line = f"{factor.name}: {seeds} seeds find an effect of {now.detectable_effect(index, power):.2g}"
        if margin is not None:
            line += f", {now.seeds_needed(index, margin, power)} seeds the margin of {margin:g}"
        yield line
    pairs = combinations(range(len(sizes)), 2)
    widest = max(now.detectable_interaction(one, other, power) for one, other in pairs)
    yield f"interactions: {seeds} seeds find one combination of two levels that is off by {widest:.2g}"


# ------------------------------------------------------------------------------------------------- sequential studies

_SHAPE_ALPHA = 0.05


def look_shares(looks: Sequence[int]) -> list[float]:
    """What share of the chance of error each look may spend; they sum to 1.

    Looks are at n_1 < ... < n_K seeds. By the k-th a fraction f(n_k / n_K) / f(1) is spent, with O'Brien and Fleming's
    shape f(t) = 2 - 2 Phi(z / sqrt(t)), z the 97.5 % point of the normal: almost nothing early, and most at the end.

    Where an arm does not differ, the p value at look k is at most share_k alpha with a chance of at most share_k alpha:
    each look alone is an exact t test on seeds fixed beforehand. The chance that it happens at any look is at most the
    sum, alpha, however the looks depend on each other. So a p value divided by its share may be used as if there had
    been one look, and Holm's correction over arms be applied to it at every look. The sum wastes a little against the
    joint distribution, which for t on few seeds has no table.

    Sources: O'Brien and Fleming 1979, "A multiple testing procedure for clinical trials"; the spending function is from
    Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials". The shape is that for alpha = 0.05 at any
    alpha, so that shares do not depend on it.
    """
    from scipy.special import ndtr, ndtri

    assert looks and all(early < late for early, late in itertools.pairwise(looks)), f"looks {list(looks)}"
    z = -float(ndtri(_SHAPE_ALPHA / 2))
    spent = [2 * float(ndtr(-z / math.sqrt(look / looks[-1]))) for look in looks]
    return [(late - early) / spent[-1] for early, late in itertools.pairwise([0.0, *spent])]


def planned_looks(study: Study) -> list[int]:
    """The numbers of seeds to look at: the declared ones at first, `step` more each time, `max_seeds` at last."""
    assert study.sequential is not None, "only a sequential study is looked at more than once"
    return [*range(len(study.seeds), study.sequential.max_seeds, study.sequential.step), study.sequential.max_seeds]


@dataclass(frozen=True)
class NextLook:
    """What to do after a look."""

    decision: Literal["add seeds", "resolved", "limit reached"]
    unresolved: Sequence[str]  # names of the arms without a verdict
    seeds: int  # how many an arm is to have at the next look; as many as it has where there is none

    @property
    def reason(self) -> str:
        """The same in a sentence."""
        if self.decision == "resolved":
            return "every arm has its verdict"
        names = ", ".join(self.unresolved)
        if self.decision == "limit reached":
            return f"no more seeds are wanted (sequential.max_seeds={self.seeds}); without a verdict: {names}"
        return f"without a verdict: {names}; the next look is at {self.seeds} seeds"


def next_look(comparison: Comparison, study: Study, seeds: int) -> NextLook:
    """Decide after a look at `seeds` seeds an arm; a pure function of what was seen.

    An arm is resolved by any verdict but "inconclusive"; one that diverged is, as no further seed takes that back.

    Args:
        comparison: of what has ended, its verdicts those of this look (`look_shares`).
        study: a sequential one.
    """
    unresolved = [arm.name for arm in comparison.arms if arm.contrast and arm.contrast.verdict == "inconclusive"]
    later = [look for look in planned_looks(study) if look > seeds]
    if not unresolved:
        return NextLook("resolved", [], seeds)
    return NextLook("add seeds", unresolved, later[0]) if later else NextLook("limit reached", unresolved, seeds)
