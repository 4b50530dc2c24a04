"""How many seeds a study takes by the noise of a pilot: some finished runs of its arms, or of its baseline alone."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atomiclm.cli import UserError
from atomiclm.comparison.results import Arm, Comparison
from atomiclm.comparison.statistics import POWER, detectable_difference, seeds_needed
from atomiclm.sweep.study import check_margin
from atomiclm.tracking.wording import duration

WELL_KNOWN_PAIRS = 5
"""With fewer, a standard deviation is known to no better than a factor of two either way (chi-squared, 95 %)."""


@dataclass(frozen=True)
class SeedsRow:
    """What one arm takes.

    Attributes:
        arm: its name.
        pairs: seeds of the pilot it shares with the baseline.
        deviation: of the paired differences; where the pilot has no pairs, sqrt(2) times the baseline's over seeds, as
            if pairing bought nothing. None where neither is known.
        is_measured: whether from pairs.
        seeds: to find a difference as large as the margin; None without a margin or a deviation.
        detectable: smallest difference that the pilot's pairs find; None without at least two.
        more_seconds: of training for the seeds that the arm lacks, at the pace of its runs; None without `seeds`.
    """

    arm: str
    pairs: int
    deviation: float | None
    is_measured: bool
    seeds: int | None
    detectable: float | None
    more_seconds: float | None


@dataclass(frozen=True)
class SeedsReport:
    """The plan.

    Attributes:
        rows: of every arm that is compared; of a pilot of the baseline alone, one for any arm to come.
        margin: difference that is to be found; None where none was declared.
        power: share of studies that are to find it.
        alpha: chance of error, after Holm's correction over the arms.
        seeds: that suffice for every arm; None where one of them is not known.
        more_seconds: of training for all arms and the baseline to have so many; None likewise.
    """

    rows: Sequence[SeedsRow]
    margin: float | None
    power: float
    alpha: float
    seeds: int | None
    more_seconds: float | None

    def lines(self) -> Iterator[str]:
        """The plan in words, a line an arm."""
        if self.margin is None:
            yield "no margin was declared (study.margin, --margin); these are the differences that would be found"
        for row in self.rows:
            yield f"{row.arm}: {self._about(row)}"
        if self.seeds is not None and self.more_seconds is not None:
            yield (
                f"{self.seeds} seeds an arm find a difference of {self.margin:g} in {100 * self.power:.0f} % of "
                f"studies; {duration(self.more_seconds)} of training more"
            )

    def _about(self, row: SeedsRow) -> str:
        if row.deviation is None:
            return "fewer than 2 finished seeds; run at least 3 to see the noise"
        origin = f"{row.pairs} pairs" if row.is_measured else "the baseline's seeds, unpaired"
        parts = [f"sd of differences {row.deviation:.2g} ({origin})"]
        if row.detectable is not None:
            parts.append(f"{row.pairs} seeds find {row.detectable:.2g}")
        if row.seeds is not None and row.more_seconds is not None:
            parts.append(f"{row.seeds} seeds needed, {duration(row.more_seconds)} more")
        if row.is_measured and row.pairs < WELL_KNOWN_PAIRS:
            parts.append("known roughly")
        return ", ".join(parts)


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
    return SeedsReport(rows, margin, power, comparison.alpha, seeds, seconds)


def _row(arm: Arm, unpaired: float | None, margin: float | None, power: float, alpha: float) -> SeedsRow:
    contrast = arm.contrast
    is_measured = contrast is not None and contrast.is_paired and contrast.deviation is not None
    deviation = contrast.deviation if contrast is not None and is_measured else unpaired
    pairs = len(contrast.seeds) if contrast is not None else 0
    if deviation is None:
        return SeedsRow(arm.name, pairs, None, False, None, None, None)
    seeds = None if margin is None else seeds_needed(deviation, margin, alpha, power)
    return SeedsRow(
        arm=arm.name,
        pairs=pairs,
        deviation=deviation,
        is_measured=is_measured,
        seeds=seeds,
        detectable=detectable_difference(deviation, pairs, alpha, power) if pairs > 1 else None,
        more_seconds=None if seeds is None else _more_seconds(arm, seeds),
    )


def _more_seconds(arm: Arm, seeds: int) -> float:
    """Of the runs that an arm lacks, each as long as the mean of those that ended."""
    seconds = [float(run.summary.get("seconds", 0.0)) for run in arm.runs]
    return max(0, seeds - len(seconds)) * statistics.fmean(seconds) if seconds else 0.0
