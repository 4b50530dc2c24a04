"""Every arm against the baseline: from figures by seed to differences, intervals, tests and a verdict in one word."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from atomiclm.comparison.results import Contrast, Direction, Outcome, Verdict
from atomiclm.comparison.seeds import look_shares
from atomiclm.comparison.statistics import (
    Estimate,
    correlation,
    detectable_difference,
    holm,
    one_sample,
    seeds_needed,
    welch,
)
from atomiclm.sweep.study import Expected

Figures = Mapping[int, float]
"""The metric by seed, in the order in which the study has the seeds."""


@dataclass(frozen=True)
class Rules:
    """What is decided by."""

    direction: Direction = "lower"
    margin: float | None = None
    alpha: float = 0.05
    looks: Sequence[int] = ()  # of a sequential study, the numbers of seeds it is looked at; empty for one at the end


@dataclass(frozen=True)
class _Samples:
    """Two arms as far as they can be compared: the pairs, or two samples of different seeds."""

    seeds: list[int]
    arm: list[float]
    baseline: list[float]
    is_paired: bool
    share: float  # of the chance of error, which this look may spend
    waiting: str

    @property
    def differences(self) -> list[float]:
        pairs = zip(self.arm, self.baseline, strict=True) if self.is_paired else ()
        return [ours - theirs for ours, theirs in pairs]

    @property
    def count(self) -> int:
        return min(len(self.arm), len(self.baseline))

    def estimate(self) -> Estimate | None:
        if self.count < 2:
            return None
        return one_sample(self.differences) if self.is_paired else welch(self.arm, self.baseline)

    def deviation(self) -> float | None:
        """Of one difference."""
        if self.count < 2:
            return None
        if self.is_paired:
            return statistics.stdev(self.differences)
        return math.sqrt(statistics.variance(self.arm) + statistics.variance(self.baseline))


def contrasts(
    baseline: Figures, arms: Mapping[str, Figures], diverged: Mapping[str, int], rules: Rules
) -> dict[str, Contrast]:
    """Return the contrast of each arm, its verdict included; `diverged` is by arm the number of seeds that did.

    An arm without figures still counts in Holm's correction, so that verdicts do not sharpen because a run is missing.
    """
    samples = {name: _samples(figures, baseline, rules.looks) for name, figures in arms.items()}
    estimates = {name: compared.estimate() for name, compared in samples.items()}
    deciding = [
        1.0 if estimate is None or diverged.get(name) else min(1.0, estimate.p() / samples[name].share)
        for name, estimate in estimates.items()
    ]
    adjusted = dict(zip(arms, holm(deciding), strict=True))
    return {
        name: _contrast(samples[name], estimates[name], adjusted[name], bool(diverged.get(name)), len(arms), rules)
        for name in arms
    }


def _samples(arm: Figures, baseline: Figures, looks: Sequence[int]) -> _Samples:
    """Pairs by seed; where fewer than two seeds are shared but both have two, independent samples.

    Of a sequential study only as many pairs as the last look had: what has ended since is for the next one.
    """
    seeds = [seed for seed in baseline if seed in arm]
    shares = look_shares(looks) if looks else [1.0]
    if len(seeds) < 2 and min(len(arm), len(baseline)) > 1:
        return _Samples([], [*arm.values()], [*baseline.values()], False, shares[-1], "")
    share, waiting = 1.0, ""
    if passed := [index for index, look in enumerate(looks) if look <= len(seeds)]:
        share, look = shares[passed[-1]], looks[passed[-1]]
        if len(seeds) > look:
            waiting = f"decided on the first {look} of {len(seeds)} seeds, as the looks were planned"
        seeds = seeds[:look]
    elif looks:
        waiting = f"the first look is at {looks[0]} seeds, and {len(seeds)} can be compared"
        seeds = seeds[:1]
    return _Samples(seeds, [arm[seed] for seed in seeds], [baseline[seed] for seed in seeds], True, share, waiting)


def _contrast(
    samples: _Samples, estimate: Estimate | None, p_holm: float, has_diverged: bool, family: int, rules: Rules
) -> Contrast:
    alpha = rules.alpha * samples.share
    low, high = estimate.interval(alpha) if estimate else (None, None)
    deviation = samples.deviation()
    needed = detectable = p_equivalence = None
    if deviation is not None:
        detectable = detectable_difference(deviation, samples.count, alpha / family)
        if rules.margin is not None:
            last_share = look_shares(rules.looks)[-1] if rules.looks else 1.0
            needed = seeds_needed(deviation, rules.margin, rules.alpha * last_share / family)
    if estimate and rules.margin is not None:
        p_equivalence = estimate.p_equivalence(rules.margin)
    mean = estimate.mean if estimate else math.nan
    if samples.count == 1:
        mean = samples.arm[0] - samples.baseline[0]
    tested = None if estimate is None or has_diverged else p_holm
    at_this_look = None if p_equivalence is None else p_equivalence / samples.share
    found = Contrast(
        seeds=samples.seeds,
        differences=samples.differences,
        is_paired=samples.is_paired,
        mean=mean,
        deviation=deviation,
        low=low,
        high=high,
        alpha=alpha,
        p=estimate.p() if estimate else None,
        p_holm=tested,
        p_equivalence=p_equivalence,
        correlation=correlation(samples.arm, samples.baseline) if samples.is_paired else None,
        seeds_needed=needed,
        detectable=detectable,
        verdict="diverged" if has_diverged else decide(mean, tested, at_this_look, rules.direction, rules.alpha),
        note="its figures are of the seeds that ended",
    )
    if has_diverged:
        return found
    return replace(found, note="; ".join(part for part in _notes(found, samples, family, rules) if part))


def _notes(contrast: Contrast, samples: _Samples, family: int, rules: Rules) -> Iterator[str]:
    """What the verdict leaves out."""
    count, needed = samples.count, contrast.seeds_needed
    yield samples.waiting
    if contrast.p is None:
        yield "one seed has no error bar; add seed=1,2,3" if count else "no seed can be compared"
        return
    if not contrast.is_paired:
        yield "other seeds than the baseline's: not paired"
    elif contrast.correlation is not None and count >= 5 and contrast.correlation < 0.1:
        yield f"pairing by seed did not reduce the noise (correlation {contrast.correlation:.2f})"
    if contrast.verdict == "equivalent" and contrast.p_holm is not None and contrast.p_holm < rules.alpha:
        yield f"a difference of {contrast.mean:+.2g}, certain but smaller than the margin of {rules.margin:g}"
    if contrast.verdict == "inconclusive":
        if contrast.p < contrast.alpha:
            yield f"a difference by itself (p {contrast.p:.2g}), but not after the correction for {family} arms"
        if needed is not None and needed > count:
            yield f"not resolvable with {count} seeds: about {needed} are needed for a margin of {rules.margin:g}"
        elif needed is not None:
            yield f"{count} seeds find most differences of {rules.margin:g}; the true one is close to it or smaller"


def decide(
    mean: float, p_holm: float | None, p_equivalence: float | None, direction: Direction, alpha: float
) -> Verdict:
    """The verdict on an arm that diverged on no seed, from its difference to the baseline in the study's metric.

    equivalent      the test of equivalence passes at `alpha`: the interval of `1 - 2 alpha` (90 %) lies within the
                    margin on both sides. It takes a margin that was declared.
    better, worse   else, if p after Holm's correction over the study's arms is below `alpha`.
    inconclusive    neither; also where fewer than two seeds can be compared.

    Both tests may pass: many seeds make a difference certain that is too small to matter. The margin is by declaration
    the smallest that matters, so the arm is equivalent, and its note tells of the difference.

    The chance that any arm is called better or worse which does not differ is at most `alpha` for the whole study
    (Holm); that an arm is called equivalent which differs by the margin or more, at most `alpha` for each arm: this one
    is not corrected over arms, so that it stays what everybody reads off the 90 % interval.

    An arm that diverged on k of n seeds has that as its verdict, whatever the others did: a mean over the runs that
    happened to survive is no estimate of the arm.

    A p is None where there is no such test; of a look in a sequential study it is divided by the look's share
    (`seeds.look_shares`).
    """
    if p_equivalence is not None and p_equivalence < alpha:
        return "equivalent"
    if p_holm is not None and p_holm < alpha:
        return "better" if (mean < 0) == (direction == "lower") else "worse"
    return "inconclusive"


def outcome(expected: Expected, verdict: Verdict, all_diverged: bool) -> Outcome:
    """Whether what was predicted of an arm was seen.

    Equivalence contradicts a predicted difference, and a difference predicted equivalence; what is inconclusive decides
    nothing. An arm that diverged on every seed is worse than any baseline that ends; on some, it decides nothing.
    """
    if verdict == "diverged":
        verdict = "worse" if all_diverged else "inconclusive"
    if verdict == "inconclusive":
        return "unresolved"
    seen = {verdict, "different"} if verdict in ("better", "worse") else {verdict}
    return "reproduced" if expected in seen else "contradicted"
