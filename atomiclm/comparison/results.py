"""The structure of a comparison: every number that the terminal, Markdown, CSV, JSON and the page show, and no layout.

Missing numbers are None, or NaN in a `Spread`, never zero. Arms stand in the study's order, the baseline first.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from atomiclm.sweep.ledger import TunedValue
from atomiclm.sweep.study import Expected, Study
from atomiclm.tracking.run_result import RunResult

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "diverged"]
"""Of an arm, against the baseline (`atomiclm.comparison.verdicts`)."""

Outcome = Literal["reproduced", "contradicted", "unresolved"]
"""Of a prediction, against the verdict."""


@dataclass(frozen=True)
class Spread:
    """One figure over the seeds of an arm.

    Attributes:
        mean: NaN where a run did not report the figure or reported no number.
        deviation: sample standard deviation (divisor n - 1); None for a single run, which has none.
        count: number of runs.
        half_width: of the interval of the mean by Student's t, at the comparison's confidence; None as `deviation`.
            Only of the metric: the other figures are described, not decided on.
    """

    mean: float
    deviation: float | None
    count: int
    half_width: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarize `values`; not-a-number among them makes the mean not a number."""
        if not values or not all(math.isfinite(value) for value in values):
            return cls(math.nan, None, len(values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Column:
    """A configuration key that differs between arms: its full dotted name and a name short enough for a table."""

    key: str
    short: str


@dataclass(frozen=True)
class Contrast:
    """An arm against the baseline, in the metric's unit: the arm's figure less the baseline's.

    Attributes:
        seeds: seeds that both ended with, and that the verdict rests on. Empty where the two share no seeds.
        differences: one a seed, in the order of `seeds`.
        is_paired: whether by seed; else two independent samples (Welch).
        mean: of the difference; NaN without one.
        deviation: of the differences over seeds; of independent samples that of a single difference.
        low, high: ends of the interval of the mean difference, at `1 - alpha`; None for fewer than two seeds.
        alpha: chance of error of the interval and the tests: the comparison's, or this look's share of it.
        p: two-sided, of no difference.
        p_holm: the same adjusted for all arms (and looks) of the study; what the verdict rests on.
        p_equivalence: larger of the two one-sided tests at the margin; None without a margin.
        correlation: of the pairs over seeds; near 0 pairing bought nothing. None for fewer than three pairs.
        seeds_needed: for a difference as large as the margin to be found in 80 % of studies; None without a margin.
        detectable: smallest difference that this many seeds find in 80 % of studies.
        verdict: in a word.
        note: what the word leaves out; "" where there is nothing.
    """

    seeds: Sequence[int]
    differences: Sequence[float]
    is_paired: bool
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    alpha: float
    p: float | None
    p_holm: float | None
    p_equivalence: float | None
    correlation: float | None
    seeds_needed: int | None
    detectable: float | None
    verdict: Verdict
    note: str


@dataclass(frozen=True)
class CostDifference:
    """By how much a cost of an arm differs from the baseline's: 0.01 is one per cent more.

    Attributes:
        quantity: its name in summary.json.
        relative: the difference, as a fraction of the baseline's.
        is_matched: whether the arm was made to match in this one, so that what is left is a residual.
    """

    quantity: str
    relative: float
    is_matched: bool


@dataclass(frozen=True)
class Arm:
    """One arm: the runs that differ only in the seed.

    Attributes:
        name: as the study calls it; made of what differs where there is no study.
        values: the value of each differing key, by its full name; None where the arm has no such key.
        runs: those that ended, in the order of the study's seeds; the figures are of these.
        diverged: those whose loss stopped being a number. They count, though they have no figure.
        planned: runs the study wants; without one those that ended or diverged.
        figures: every number of summary.json, by name.
        contrast: against the baseline; None for the baseline, and where there is none.
        costs: what costs more or less than the baseline, one entry a quantity that differs.
        expected: what was predicted of it; None where nothing was.
        outcome: of that prediction.
    """

    name: str
    values: Mapping[str, Any]
    runs: Sequence[RunResult]
    diverged: Sequence[RunResult]
    planned: int
    figures: Mapping[str, Spread]
    contrast: Contrast | None = None
    costs: Sequence[CostDifference] = ()
    expected: Expected | None = None
    outcome: Outcome | None = None

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
    """A run that is wanted and has no figure.

    Attributes:
        arm: its arm; "" where no plan says.
        seed: None where it cannot be read.
        run: name of its folder.
        state: missing (it never began), running, interrupted, failed, diverged or torn.
        progress: how far it came; "".
        error: what went wrong, in one line; "".
        command: runs it alone, to its end; "" where nothing tells how it was started.
    """

    arm: str
    seed: int | None
    run: str
    state: str
    progress: str
    error: str
    command: str


@dataclass(frozen=True)
class Prediction:
    """What was said beforehand, and how beforehand.

    Attributes:
        text, source: as declared.
        sha256: of the declaration as it stands; None without a ledger entry.
        time: when the sweep first saw it so, ISO 8601.
        finished_cells: how many runs had ended by then. 0: a prediction.
        earlier_versions: how often it had been declared otherwise before.
    """

    text: str
    source: str
    sha256: str | None
    time: str | None
    finished_cells: int | None
    earlier_versions: int

    @property
    def is_before_the_results(self) -> bool:
        """Whether no run had ended when it was declared as it stands."""
        return self.finished_cells == 0


@dataclass(frozen=True)
class Noise:
    """What no difference can be told from.

    Attributes:
        deviation: of the metric over the baseline's seeds; None for fewer than two.
        count: number of those seeds.
        difference_deviation: of the paired differences, root mean square over the arms; None without pairs.
        pairs: seeds an arm, in the median.
        detectable: smallest difference that so many pairs find in 80 % of studies with so many arms; None likewise.
    """

    deviation: float | None
    count: int
    difference_deviation: float | None
    pairs: int
    detectable: float | None


@dataclass(frozen=True)
class EnvironmentDifference:
    """A fact of environment.json that is not the same for all runs.

    Attributes:
        fact: commit, torch, device, precision, threads and the like.
        runs: number of runs by value.
    """

    fact: str
    runs: Mapping[str, int]


@dataclass(frozen=True)
class Total:
    """Spent on every run that is compared, those that did not end included.

    Attributes:
        runs: number of runs that ended.
        seconds: of training steps, one run after another.
        core_seconds: the same times the threads of each run, for runs on a CPU.
        flops: of training.
    """

    runs: int
    seconds: float
    core_seconds: float
    flops: float


@dataclass(frozen=True)
class Comparison:
    """All that `compare` shows.

    Attributes:
        name: of the study: the folder's.
        folders: where the runs were read.
        study: the declaration; without arms where there is none.
        profile: cpu, smoke or gpu; "" without a ledger.
        command: what was typed last to run all of it; "" without a ledger.
        metric: name of the figure that decides.
        direction: whether lower or higher is better.
        margin: smallest difference that matters; None: nothing is called equivalent.
        alpha: chance of error; 0.05 makes intervals of 95 %.
        baseline: name of the arm that all others are held against; None where no run has ended.
        columns: the configuration keys that differ between arms.
        arms: the baseline first, then in the study's order; those without a figure too.
        unfinished: what is missing or went wrong.
        unplanned: run folders that are not in the study's plan, and are left out.
        prediction: None where nothing was predicted.
        noise: None where no run has ended.
        anchors: bits per byte of n-grams and compressors on the same bytes, by name.
        environment: what was not the same for all runs.
        total: what it cost.
        tuned: by arm, the value that tuning chose.
        notes: what a reader must know, a sentence each.
    """

    name: str
    folders: Sequence[str]
    study: Study
    profile: str
    command: str
    metric: str
    direction: Literal["lower", "higher"]
    margin: float | None
    alpha: float
    baseline: str | None
    columns: Sequence[Column]
    arms: Sequence[Arm]
    unfinished: Sequence[Unfinished]
    unplanned: Sequence[str]
    prediction: Prediction | None
    noise: Noise | None
    anchors: Mapping[str, float]
    environment: Sequence[EnvironmentDifference]
    total: Total
    tuned: Mapping[str, TunedValue] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)
