"""The structure of a comparison: every number that the terminal, Markdown, CSV, JSON and the page show, and no layout.

Missing numbers are None, or NaN in a `Spread`, never zero. Arms stand in the study's order, the baseline first.
"""

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from atomiclm.cli import UserError
from atomiclm.config.errors import nearest
from atomiclm.sweep.factors import Factor
from atomiclm.sweep.ledger import TunedValue
from atomiclm.sweep.study import Expected, Study
from atomiclm.tracking.run_result import RunResult

if TYPE_CHECKING:
    import altair
    import pandas

Direction = Literal["lower", "higher"]
"""Which values of the metric are better."""

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "diverged"]
"""Of an arm, against the baseline (`atomiclm.comparison.verdicts`)."""

Outcome = Literal["reproduced", "contradicted", "unresolved"]
"""Of a prediction, against the verdict."""


FigureKind = Literal["arms", "effects", "heatmap", "interactions", "curves", "cost"]
"""Of a picture: arms with their intervals; the others of a sweep over several factors."""


@dataclass(frozen=True)
class Spread:
    """One figure over the seeds of an arm."""

    mean: float  # NaN where a run did not report the figure, or reported a non-finite one
    deviation: float | None  # sample standard deviation (divisor n - 1); None for a single run, which has none
    count: int  # runs
    # Of the interval of the mean by Student's t, at the comparison's confidence; None as `deviation`, and for all
    # figures but the metric: they are described, not decided on.
    half_width: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarize `values`; not-a-number among them makes the mean not a number."""
        if not values or not all(math.isfinite(value) for value in values):
            return cls(math.nan, None, len(values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Column:
    """A configuration key that differs between arms."""

    key: str  # its full dotted name
    short: str  # short enough for a table


@dataclass(frozen=True)
class Contrast:
    """An arm against the baseline, in the metric's unit: the arm's figure less the baseline's."""

    seeds: Sequence[int]  # both ended with, and the verdict rests on; empty where the two share no seeds
    differences: Sequence[float]  # one a seed, in the order of `seeds`
    is_paired: bool  # by seed; else two independent samples (Welch)
    mean: float  # of the difference; NaN without one
    deviation: float | None  # of the differences over seeds; of independent samples that of a single difference
    low: float | None  # ends of the interval of the mean difference, at `1 - alpha`; None for fewer than two seeds
    high: float | None
    alpha: float  # chance of error of the interval and the tests: the comparison's, or this look's share of it
    p: float | None  # two-sided, of no difference
    p_holm: float | None  # adjusted for all arms (and looks) of the study; what the verdict rests on
    p_equivalence: float | None  # the larger of the two one-sided tests at the margin; None without a margin
    correlation: float | None  # of the pairs over seeds; near 0 pairing bought nothing. None for fewer than three pairs
    seeds_needed: int | None  # to find a difference as large as the margin in 80 % of studies; None without a margin
    detectable: float | None  # smallest difference that this many seeds find in 80 % of studies
    verdict: Verdict
    note: str  # what the word leaves out; "" where there is nothing


@dataclass(frozen=True)
class CostDifference:
    """By how much a cost of an arm differs from the baseline's."""

    quantity: str  # its name in summary.json
    relative: float  # as a fraction of the baseline's: 0.01 is one per cent more
    is_matched: bool  # whether the arm was made to match in this one, so that what is left is a residual


@dataclass(frozen=True)
class Arm:
    """One arm: the runs that differ only in the seed."""

    name: str  # as the study calls it; made of what differs where there is no study
    values: Mapping[str, Any]  # of each differing key, by its full name; None where the arm has no such key
    runs: Sequence[RunResult]  # those that ended, in the order of the study's seeds; the figures are of these
    diverged: Sequence[RunResult]  # those whose loss stopped being a number; they count, though they have no figure
    planned: int  # runs the study wants; without one those that ended or diverged
    figures: Mapping[str, Spread]  # every number of summary.json, by name
    contrast: Contrast | None = None  # None for the baseline, and where there is none
    costs: Sequence[CostDifference] = ()  # against the baseline, one entry a quantity that differs
    expected: Expected | None = None  # what was predicted of it
    outcome: Outcome | None = None  # of that prediction

    @property
    def seeds(self) -> list[int]:
        """Of the runs that ended."""
        return [run.seed for run in self.runs]

    @property
    def verdict(self) -> str:
        """The verdict in words: "diverged 1 of 3" where a seed did; "" for a baseline that did not."""
        if self.diverged:
            return f"diverged {len(self.diverged)} of {len(self.diverged) + len(self.runs)}"
        return self.contrast.verdict if self.contrast else ""


@dataclass(frozen=True)
class Unfinished:
    """A run that is wanted and has no figure. What is not known is ""."""

    arm: str
    seed: int | None
    run: str  # name of its folder
    state: str  # missing (it never began), running, interrupted, failed, diverged or torn
    progress: str  # how far it came
    error: str  # what went wrong, in one line
    command: str  # runs it alone, to its end


@dataclass(frozen=True)
class Prediction:
    """What was said beforehand, and how beforehand."""

    text: str
    source: str
    sha256: str | None  # of the declaration as it stands
    time: str | None  # when the sweep first saw it so, ISO 8601; None without a ledger entry
    finished_cells: int | None  # runs that had ended by then. 0: a prediction
    earlier_versions: int  # how often it had been declared otherwise before

    @property
    def is_before_the_results(self) -> bool:
        return self.finished_cells == 0


@dataclass(frozen=True)
class Noise:
    """What no difference can be told from."""

    deviation: float | None  # of the metric over the baseline's seeds; None for fewer than two
    count: int  # of those seeds
    difference_deviation: float | None  # of the paired differences, root mean square over the arms; None without pairs
    pairs: int  # seeds an arm, in the median
    detectable: float | None  # smallest difference that so many pairs find in 80 % of studies with so many arms


@dataclass(frozen=True)
class EnvironmentDifference:
    """A fact of environment.json that is not the same for all runs."""

    fact: str  # commit, torch, device, precision, threads and the like
    runs: Mapping[str, int]  # number of runs by value


@dataclass(frozen=True)
class Total:
    """Spent on every run that is compared, those that did not end included."""

    runs: int  # that ended
    seconds: float  # of training steps, one run after another
    core_seconds: float  # the same times the threads of each run, for runs on a CPU
    flops: float  # of training


@dataclass(frozen=True)
class Effect:
    """One level of a factor against the factor's first, averaged over seeds and all other factors."""

    factor: str
    level: str
    against: str
    at: str  # the level of another factor at which a simple effect holds; "" for a main effect
    pairs: int  # differences there are, under one seed and one combination of all other factors
    mean: float  # by least squares, in the metric's unit; NaN where it cannot be estimated
    low: float | None  # ends of its interval at 1 - alpha; None without an error bar
    high: float | None
    degrees_of_freedom: int  # of the noise
    p: float | None  # two-sided, of no effect
    p_holm: float | None  # adjusted for all effects that are asked about; what the verdict rests on
    p_equivalence: float | None  # the larger of two one-sided tests at the margin; None without a margin
    verdict: Verdict
    note: str  # what the verdict leaves out


@dataclass(frozen=True)
class Interaction:
    """Whether the effect of one factor depends on another."""

    factors: tuple[str, str]
    levels: tuple[Sequence[str], Sequence[str]]  # those that have figures
    statistic: float | None  # F with the two degrees of freedom; None where it cannot be tested
    numerator: int
    denominator: int
    p: float | None
    p_holm: float | None  # adjusted for all pairs of factors
    is_present: bool  # below alpha; the main effects of the two are then averages over unlike things
    # For each level of the first and of the second the marginal mean, and half its interval (of the runs, seeds apart;
    # NaN without an error bar); None where it cannot be estimated.
    means: Sequence[Sequence[tuple[float, float] | None]]
    effects: Sequence[Effect] = ()  # simple effects of either at each level of the other, where they interact
    note: str = ""  # why it cannot be tested


@dataclass(frozen=True)
class FactorReport:
    """What a sweep over several factors says (`atomiclm.comparison.factors`)."""

    factors: Sequence[Factor]
    levels: Mapping[str, tuple[int, ...]]  # for each arm the index of its level of every factor
    effects: Sequence[Effect]  # every level but the first of every factor
    interactions: Sequence[Interaction]  # of every pair of factors
    # Of arms with a figure by least squares, adjusted for the seeds that they lack; and half the interval, of the runs
    # apart from their seeds (NaN without an error bar).
    means: Mapping[str, tuple[float, float]]
    best: str | None  # the arm with the best mean; None where no two can be compared
    may_be_best: Sequence[str]  # the set holds the best arm in 1 - alpha of sweeps
    deviation: float | None  # of the noise of one run, seeds apart; None without repeats
    degrees_of_freedom: int  # of the noise
    is_full: bool  # all interactions are in the model; else those of three factors and more count as noise
    notes: Sequence[str]  # what a reader must know

    def levels_of(self, arm: str) -> dict[str, str]:
        return {one.name: one.levels[at] for one, at in zip(self.factors, self.levels[arm], strict=True)}

    def by_effect(self) -> list[int]:
        """The factors' indices, largest effect first."""

        def size(index: int) -> float:
            own = [abs(one.mean) for one in self.effects if one.factor == self.factors[index].name]
            return max((value for value in own if math.isfinite(value)), default=-1.0)

        return sorted(range(len(self.factors)), key=size, reverse=True)


@dataclass(frozen=True, repr=False)
class Comparison:
    """All that `compare` shows."""

    name: str  # of the study: the folder's
    folders: Sequence[str]  # where the runs were read
    study: Study  # the declaration; without arms where there is none
    profile: str  # cpu, smoke or gpu; "" without a ledger
    command: str  # what was typed last to run all of it; "" without a ledger
    metric: str  # name of the figure that decides
    direction: Direction
    margin: float | None  # smallest difference that matters; None: nothing is called equivalent
    alpha: float  # chance of error; 0.05 makes intervals of 95 %
    baseline: str | None  # the arm that all others are held against; None where no run has ended
    columns: Sequence[Column]  # the configuration keys that differ between arms
    arms: Sequence[Arm]  # the baseline first, then in the study's order; those without a figure too
    unfinished: Sequence[Unfinished]
    unplanned: Sequence[str]  # run folders that are not in the study's plan, and are left out
    prediction: Prediction | None
    noise: Noise | None  # None where no run has ended
    anchors: Mapping[str, float]  # bits per byte of n-grams and compressors on the same bytes, by name
    environment: Sequence[EnvironmentDifference]
    total: Total
    tuned: Mapping[str, TunedValue] = field(default_factory=dict)  # by arm, the value that tuning chose
    notes: Sequence[str] = ()  # what a reader must know, a sentence each
    factors: FactorReport | None = None  # of a sweep over several factors

    def arm(self, name: str) -> Arm:
        """The arm of that name. Raises UserError where there is none."""
        arms = {arm.name: arm for arm in self.arms}
        if name not in arms:
            raise UserError(f"there is no arm {name!r}{nearest(name, arms)}")
        return arms[name]

    def chart(self, kind: FigureKind | None = None) -> "altair.TopLevelMixin":
        """The figure that `compare --figure` writes; None: of a sweep over several factors its effects, else arms.

        Raises:
            UserError: there is nothing of that kind to draw.
        """
        from atomiclm.comparison.factor_charts import draw_figure

        figure: altair.TopLevelMixin = draw_figure(self, kind)[0]
        return figure

    def frame(self, rows: Literal["arms", "runs"] = "arms") -> "pandas.DataFrame":
        """A row an arm, or a row a run with every figure, in pandas. ImportError: pandas is not installed."""
        import pandas

        from atomiclm.comparison.export import to_csv, to_csv_of_runs

        return pandas.read_csv(io.StringIO({"arms": to_csv, "runs": to_csv_of_runs}[rows](self)))

    def __repr__(self) -> str:
        return f"Comparison({self.name}: {', '.join(arm.name for arm in self.arms)})"

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        from atomiclm.comparison.export import to_markdown

        return to_markdown(self)
