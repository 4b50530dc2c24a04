"""How many seeds: planned from the noise of a pilot, or added look by look in a sequential study."""

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import combinations

from atomiclm.comparison.results import Arm, Comparison, FactorReport
from atomiclm.comparison.statistics import POWER, detectable_difference, seeds_needed
from atomiclm.sweep.study import Study
from atomiclm.tracking.console import duration

WELL_KNOWN_PAIRS = 5
"""With fewer, a standard deviation is known to no better than a factor of two either way (chi-squared, 95 %)."""


def seed_lines(comparison: Comparison) -> Iterator[str]:
    """Plan a study from what has ended of it: the noise of every arm, what its seeds find, and how many it takes.

    Where an arm has no pairs with the baseline, the noise of a difference is sqrt(2) times the baseline's over seeds,
    as if pairing bought nothing.
    """
    margin = comparison.margin
    if margin is None:
        yield "no margin was declared (study.margin, --margin); these are the differences that would be found"
    base = next((arm for arm in comparison.arms if arm.name == comparison.baseline), None)
    compared = [arm for arm in comparison.arms if arm is not base]
    alpha = comparison.alpha / max(1, len(compared))
    spread = base.figures[comparison.metric].deviation if base else None
    needed: list[int] = []
    for arm in compared or ([base] if base else []):
        contrast = arm.contrast
        paired = contrast.deviation if contrast and contrast.is_paired else None
        deviation = paired if paired is not None else None if spread is None else math.sqrt(2) * spread
        if deviation is None:
            yield f"{arm.name}: fewer than 2 finished seeds; run at least 3 to see the noise"
            continue
        pairs = len(contrast.seeds) if contrast else 0
        origin = "the baseline's seeds, unpaired" if paired is None else f"{pairs} pairs"
        parts = [f"{arm.name}: sd of differences {deviation:.2g} ({origin})"]
        if pairs > 1:
            parts.append(f"{pairs} seeds find {detectable_difference(deviation, pairs, alpha):.2g}")
        if margin is not None:
            needed.append(seeds_needed(deviation, margin, alpha))
            parts.append(f"{needed[-1]} seeds needed, {duration(_more_seconds(arm, needed[-1]))} more")
        if paired is not None and pairs < WELL_KNOWN_PAIRS:
            parts.append("known roughly")
        yield ", ".join(parts)
    if needed:
        more = sum(_more_seconds(arm, max(needed)) for arm in comparison.arms)
        yield (
            f"{max(needed)} seeds an arm find a difference of {margin:g} in {100 * POWER:.0f} % of "
            f"studies; {duration(more)} of training more"
        )


def _more_seconds(arm: Arm, seeds: int) -> float:
    """Of training the runs that an arm lacks, each as long as the mean of those that ended."""
    seconds = [float(run.summary.get("seconds", 0.0)) for run in arm.runs]
    return max(0, seeds - len(seconds)) * statistics.fmean(seconds) if seconds else 0.0


def factor_lines(comparison: Comparison, report: FactorReport) -> Iterator[str]:
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
    yield f"residual sd {report.deviation:.2g}, seeds as blocks ({freedom}); found in {100 * POWER:.0f} % of sweeps:"
    for index, factor in enumerate(report.factors):
        line = f"{factor.name}: {seeds} seeds find an effect of {now.detectable_effect(index):.2g}"
        if margin is not None:
            line += f", {now.seeds_needed(index, margin)} seeds the margin of {margin:g}"
        yield line
    pairs = combinations(range(len(sizes)), 2)
    widest = max(now.detectable_interaction(one, other) for one, other in pairs)
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


def next_look(comparison: Comparison, study: Study, seeds: int) -> tuple[int, str]:
    """Decide after a look at `seeds` seeds an arm: how many each is to have next, no more where it ends, and why.

    An arm is resolved by any verdict but "inconclusive"; one that diverged is, as no further seed takes that back. The
    comparison's verdicts are those of this look (`look_shares`), the study is a sequential one.
    """
    unresolved = [arm.name for arm in comparison.arms if arm.contrast and arm.contrast.verdict == "inconclusive"]
    if not unresolved:
        return seeds, "no arm is inconclusive"
    names = ", ".join(unresolved)
    if later := [look for look in planned_looks(study) if look > seeds]:
        return later[0], f"still inconclusive: {names}; they are compared again at {later[0]} seeds"
    return seeds, f"no more seeds are wanted (sequential.max_seeds={seeds}); still inconclusive: {names}"
