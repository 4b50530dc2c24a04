"""Every arm against the baseline: from figures by seed to differences, intervals, tests and a verdict in one word."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from atomiclm.comparison.alpha_spending import look_shares
from atomiclm.comparison.results import Contrast, Outcome, Verdict
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
    """What is decided by.

    Attributes:
        looks: of a sequential study, the numbers of seeds at which it is looked at; empty for one look at the end.
    """

    direction: Literal["lower", "higher"] = "lower"
    margin: float | None = None
    alpha: float = 0.05
    looks: Sequence[int] = ()


@dataclass(frozen=True)
class _Compared:
    """Two arms as far as they can be compared: the pairs, or two samples of different seeds."""

    seeds: list[int]
    arm: list[float]
    baseline: list[float]
    is_paired: bool
    share: float
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
    """Return the contrast of each arm, its verdict included.

    Args:
        arms: all that the study holds against the baseline; one without figures still counts in Holm's correction, so
            that verdicts do not sharpen because a run is missing.
        diverged: by arm, number of seeds that diverged.
    """
    pairs = {name: _compare(figures, baseline, rules.looks) for name, figures in arms.items()}
    estimates = {name: compared.estimate() for name, compared in pairs.items()}
    p_values = {name: estimate.p() if estimate else None for name, estimate in estimates.items()}
    deciding = {
        name: 1.0 if p is None or diverged.get(name) else min(1.0, p / pairs[name].share)
        for name, p in p_values.items()
    }
    adjusted = dict(zip(deciding, holm(list(deciding.values())), strict=True))
    found = {}
    for name, compared in pairs.items():
        one = _contrast(compared, estimates[name], p_values[name], len(arms), rules)
        if diverged.get(name):
            found[name] = replace(one, verdict="diverged", note="its figures are of the seeds that ended")
            continue
        p_holm = adjusted[name] if p_values[name] is not None else None
        p_equivalence = None if one.p_equivalence is None else one.p_equivalence / compared.share
        verdict = decide(one.mean, p_holm, p_equivalence, rules.direction, rules.alpha)
        one = replace(one, p_holm=p_holm, verdict=verdict)
        found[name] = replace(one, note=_note(one, compared, len(arms), rules))
    return found


def _compare(arm: Figures, baseline: Figures, looks: Sequence[int]) -> _Compared:
    """Pairs by seed; where fewer than two seeds are shared but both have two, independent samples.

    Of a sequential study only as many pairs as the last look had: what has ended since is for the next one.
    """
    seeds = [seed for seed in baseline if seed in arm]
    if len(seeds) < 2 and min(len(arm), len(baseline)) > 1:
        share = look_shares(looks)[-1] if looks else 1.0
        return _Compared([], [*arm.values()], [*baseline.values()], False, share, "")
    share, waiting = 1.0, ""
    if looks:
        passed = [index for index, look in enumerate(looks) if look <= len(seeds)]
        if not passed:
            waiting = f"the first look is at {looks[0]} seeds, and {len(seeds)} can be compared"
            seeds = seeds[:1]
        else:
            share = look_shares(looks)[passed[-1]]
            if len(seeds) > looks[passed[-1]]:
                waiting = f"decided on the first {looks[passed[-1]]} of {len(seeds)} seeds, as the looks were planned"
            seeds = seeds[: looks[passed[-1]]]
    return _Compared(seeds, [arm[seed] for seed in seeds], [baseline[seed] for seed in seeds], True, share, waiting)


def _contrast(compared: _Compared, estimate: Estimate | None, p: float | None, family: int, rules: Rules) -> Contrast:
    """All but p_holm, the verdict and the note."""
    alpha = rules.alpha * compared.share
    low, high = estimate.interval(alpha) if estimate else (None, None)
    deviation = compared.deviation()
    last_share = look_shares(rules.looks)[-1] if rules.looks else 1.0
    needed = detectable = None
    if deviation is not None:
        if rules.margin is not None:
            needed = seeds_needed(deviation, rules.margin, rules.alpha * last_share / family)
        detectable = detectable_difference(deviation, compared.count, alpha / family)
    mean = estimate.mean if estimate else math.nan
    if estimate is None and compared.count == 1:
        mean = compared.arm[0] - compared.baseline[0]
    return Contrast(
        seeds=compared.seeds,
        differences=compared.differences,
        is_paired=compared.is_paired,
        mean=mean,
        deviation=deviation,
        low=low,
        high=high,
        alpha=alpha,
        p=p,
        p_holm=None,
        p_equivalence=estimate.p_equivalence(rules.margin) if estimate and rules.margin is not None else None,
        correlation=correlation(compared.arm, compared.baseline) if compared.is_paired else None,
        seeds_needed=needed,
        detectable=detectable,
        verdict="inconclusive",
        note="",
    )


def _note(contrast: Contrast, compared: _Compared, family: int, rules: Rules) -> str:
    """What the verdict leaves out."""
    count, parts = compared.count, [compared.waiting]
    if count < 2:
        parts.append("one seed has no error bar" if count else "no seed can be compared")
        return _sentences(*parts)
    if not contrast.is_paired:
        parts.append("other seeds than the baseline's: not paired")
    elif contrast.correlation is not None and count >= 5 and contrast.correlation < 0.1:
        parts.append(f"pairing bought nothing (correlation {contrast.correlation:.2f})")
    assert contrast.p is not None
    if contrast.verdict == "equivalent" and contrast.p_holm is not None and contrast.p_holm < rules.alpha:
        parts.append(f"a difference of {contrast.mean:+.2g}, certain but smaller than the margin of {rules.margin:g}")
    if contrast.verdict == "inconclusive":
        if contrast.p < contrast.alpha:
            parts.append(f"alone it would be a difference (p {contrast.p:.2g}); among {family} arms it may be chance")
        if contrast.seeds_needed is not None:
            parts.append(_resolution(count, contrast.seeds_needed, rules))
    return _sentences(*parts)


def _resolution(count: int, needed: int, rules: Rules) -> str:
    if needed > count:
        return f"not resolvable with {count} seeds: about {needed} are needed for a margin of {rules.margin:g}"
    return f"{count} seeds find most differences of {rules.margin:g}; the true one seems smaller, or close to it"


def _sentences(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def decide(
    mean: float,
    p_holm: float | None,
    p_equivalence: float | None,
    direction: Literal["lower", "higher"],
    alpha: float,
) -> Verdict:
    """The verdict on an arm that diverged on no seed, from its difference to the baseline in the study's metric.

    equivalent      the test of equivalence passes at `alpha`: the interval of `1 - 2 alpha` (90 %) lies within the
                    margin on both sides. It takes a margin that was declared.
    better, worse   else, if p after Holm's correction over the study's arms is below `alpha`.
    inconclusive    neither; also where fewer than two seeds can be compared.

    Both tests may pass: many seeds make a difference certain that is too small to matter. Then the arm is equivalent,
    since the margin is by declaration the smallest difference that matters, and its note tells of the difference. At
    the number of seeds that is planned for the margin the two hardly ever meet, so this costs no power there: a true
    difference as large as the margin is called equivalent in at most a share `alpha` of studies.

    Chances of error: that any arm is called better or worse which does not differ is at most `alpha` for the whole
    study (Holm). That an arm is called equivalent which differs by the margin or more is at most `alpha` for each arm;
    this one is not corrected over arms, so that it stays what everybody reads off the 90 % interval.

    An arm that diverged on k of n seeds has that as its verdict, whatever the others did: a mean over the runs that
    happened to survive is no estimate of the arm.

    Args:
        p_holm, p_equivalence: None where there is no such test; of a look in a sequential study, divided by its share
            (`alpha_spending.look_shares`).
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
