"""The rows of `metrics.jsonl` as curves: what every seed of an arm had at the same fraction of its budget.

Seeds log at the same steps, or nearly so where the budget is in seconds, and never at the same second. So each seed is
interpolated, in its figure and in all four x axes, at common fractions f of the budget, and its x axes are averaged:

    x(f) = mean over seeds of x_s(f),    y(f) = mean over seeds of y_s(f),    band: the least and the largest y_s(f)

with which a curve ends where the table's figure is. The band is the range, not a deviation: three seeds have no better.
"""

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atomiclm.cli import UserError
from atomiclm.comparison.results import Arm, Comparison
from atomiclm.tracking.record import AXES
from atomiclm.tracking.run_folder import RunFolder
from atomiclm.tracking.run_result import RunResult

MOST_POINTS = 90
"""Of a curve: one every 8 pixels of a wide chart."""


@dataclass(frozen=True)
class Track:
    """One figure of one run: its points in the order of the steps.

    Attributes:
        fractions: of the budget used at each point.
        axes: step, tokens, seconds, flops at each point.
        values: the figure.
    """

    fractions: Sequence[float]
    axes: Mapping[str, Sequence[float]]
    values: Sequence[float]


@dataclass(frozen=True)
class RunRows:
    """What one run recorded.

    Attributes:
        tracks: by figure ("train/loss", "validation/bits_per_byte"); only those with a point.
        samples: the texts written last: prompt and text of each.
        fault: why there is nothing; "" where all is well.
    """

    tracks: Mapping[str, Track] = field(default_factory=dict)
    samples: Sequence[tuple[str, str]] = ()
    fault: str = ""


@dataclass(frozen=True)
class Curve:
    """One figure of an arm.

    Attributes:
        axes: mean over the seeds of step, tokens, seconds and flops at each point.
        seconds: of each seed at each point; machines differ in nothing else.
        values: of each seed at each point; NaN where it has none.
        ended: how many seeds, the first ones, ran to the end. The others diverged: they have a line, and no part in
            mean and band, as in the table.
    """

    axes: Mapping[str, Sequence[float]]
    seconds: Sequence[Sequence[float]]
    values: Sequence[Sequence[float]]
    ended: int

    def mean(self) -> list[float]:
        """Over the seeds that ended, at each point; NaN where one has none, since a mean over fewer would jump."""
        return [statistics.fmean(column) for column in self._ended()]

    def band(self) -> list[tuple[float, float]]:
        """Least and largest seed that ended, at each point; NaN where one has none."""
        columns = self._ended()
        missing = (math.nan, math.nan)
        return [(min(column), max(column)) if all(map(math.isfinite, column)) else missing for column in columns]

    def _ended(self) -> list[tuple[float, ...]]:
        columns = list(zip(*self.values[: self.ended], strict=True))
        return columns or [(math.nan,)] * len(self.axes["step"])


def read_rows(folder: RunFolder, figures: Sequence[str]) -> RunRows:
    """Read the points of `figures` and the last samples of a run's record.

    Training rows carry the fraction of the budget; other rows have it by their step. Rows that are not what a run
    writes are passed over: a comparison must not fail because one file was touched.

    Args:
        folder: the run.
        figures: names of rows' figures, each found in the rows of the event before its slash.
    """
    try:
        rows = folder.read_rows()
    except UserError as error:
        return RunRows(fault=str(error))
    budget_steps = _budget_steps(rows)
    if not budget_steps:
        return RunRows()
    tracks = {}
    for figure in figures:
        event = figure.split("/")[0]
        points = [
            ([float(row[axis]) for axis in AXES], float(row[figure]))
            for row in rows
            if row.get("event") == event and _is_number(row.get(figure)) and _has_axes(row)
        ]
        points.sort(key=lambda point: point[0][0])
        if points:
            columns = dict(
                zip(AXES, (list(axis) for axis in zip(*(axes for axes, _ in points), strict=True)), strict=True)
            )
            fractions = [step / budget_steps for step in columns["step"]]
            tracks[figure] = Track(fractions, columns, [value for _, value in points])
    return RunRows(tracks, _samples(rows))


def curve(
    ended: Sequence[Track], diverged: Sequence[Track] = (), points: int = MOST_POINTS, average: bool = False
) -> Curve | None:
    """One arm's curve from its seeds' tracks; None without any.

    Args:
        ended: one a seed that ran to its end.
        diverged: one a seed that did not, because its loss stopped being a number.
        points: at most so many, half of them evenly apart and half in equal ratios, so that neither a straight nor a
            logarithmic axis is left bare.
        average: whether a point is the mean of all rows since the one before (a training loss, which is noisy), or its
            own row (a validation).
    """
    if not ended and not diverged:
        return None
    kept = [_thinned(track, points, average) for track in (*ended, *diverged)]
    grid = max((track.fractions for track in kept[: len(ended)] or kept), key=len)
    # All seeds of one budget have the same fractions; then nothing is interpolated and every number is a measured one.
    values = [_at(grid, track.fractions, track.values) for track in kept]
    by_axis = {axis: [_at(grid, track.fractions, track.axes[axis]) for track in kept] for axis in AXES}
    counted = slice(len(ended) or None)
    axes = {
        axis: [_mean_of_finite(column) for column in zip(*seeds[counted], strict=True)]
        for axis, seeds in by_axis.items()
    }
    return Curve(axes, by_axis["seconds"], values, len(ended))


def thinned_positions(count: int, points: int) -> list[int]:
    """At most `points` of the positions 0 ... count - 1, the last too: half evenly apart, half in equal ratios."""
    if count <= points:
        return list(range(count))
    half = points // 2
    even = [round(index * (count - 1) / (half - 1)) for index in range(half)]
    ratios = [round(count ** (index / (half - 1))) - 1 for index in range(half)]
    return sorted({*even, *ratios})


def _thinned(track: Track, points: int, average: bool) -> Track:
    positions = thinned_positions(len(track.values), points)
    if not average:
        return _columnwise(track, lambda column: [column[position] for position in positions])
    # The axes are averaged too: a mean of falling values, put at the end of its bin, would lag behind.
    bins = list(zip([0, *(position + 1 for position in positions[:-1])], positions, strict=True))
    return _columnwise(track, lambda column: [statistics.fmean(column[start : end + 1]) for start, end in bins])


def _columnwise(track: Track, change: Callable[[Sequence[float]], list[float]]) -> Track:
    axes = {axis: change(column) for axis, column in track.axes.items()}
    return Track(change(track.fractions), axes, change(track.values))


def _at(grid: Sequence[float], fractions: Sequence[float], values: Sequence[float]) -> list[float]:
    """`values` at the fractions of `grid`, straight between neighbours; NaN outside (by more than rounding)."""
    return [_interpolate(fraction, fractions, values) for fraction in grid]


def _interpolate(fraction: float, fractions: Sequence[float], values: Sequence[float]) -> float:
    tolerance = 1e-5  # the record rounds the progress to six decimals
    right = bisect_right(fractions, fraction - tolerance)
    if right < len(fractions) and abs(fractions[right] - fraction) <= tolerance:
        return values[right]
    if right in (0, len(fractions)):
        return math.nan
    left = right - 1
    share = (fraction - fractions[left]) / (fractions[right] - fractions[left])
    return values[left] + share * (values[right] - values[left])


def _budget_steps(rows: Sequence[Mapping[str, Any]]) -> float:
    """Steps of the whole budget: by the last row that says what fraction is used, else the last step; 0 without."""
    for row in reversed(rows):
        progress = row.get("progress")
        if _is_number(progress) and 0 < progress <= 1 and _has_axes(row) and row["step"] > 0:
            return float(row["step"] / progress)
    return float(max((row["step"] for row in rows if _has_axes(row)), default=0))


def _samples(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    written = [row["samples"] for row in rows if row.get("event") == "sample" and isinstance(row.get("samples"), list)]
    last = written[-1] if written else []
    return [(str(one.get("prompt", "")), str(one.get("text", ""))) for one in last if isinstance(one, Mapping)]


def _has_axes(row: Mapping[str, Any]) -> bool:
    return all(_is_number(row.get(axis)) and math.isfinite(row[axis]) for axis in AXES)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mean_of_finite(column: Sequence[float]) -> float:
    finite = [value for value in column if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.nan


_ALWAYS = ("validation/bits_per_byte", "train/loss")


@dataclass(frozen=True)
class ArmRows:
    """What was recorded of one arm.

    Attributes:
        curves: by figure; a figure that no run recorded is not there.
        sample: seed, prompt and text of the first sample of the first seed that has one; None without.
    """

    curves: Mapping[str, Curve]
    sample: tuple[object, str, str] | None


@dataclass(frozen=True)
class Recorded:
    """What was recorded, by arm in the comparison's order.

    Attributes:
        figures: those that any arm has a curve of, the deciding one first.
        arms: one an arm.
        faults: files that could not be read, and why.
    """

    figures: Sequence[str]
    arms: Sequence[ArmRows]
    faults: Sequence[str]


def read_recorded(comparison: Comparison) -> Recorded:
    """Read the records of all runs that ended or diverged."""
    wanted = [
        name for name in dict.fromkeys((comparison.metric, *_ALWAYS)) if name.split("/")[0] in ("validation", "train")
    ]
    faults: list[str] = []
    arms = [_arm(arm, wanted, faults) for arm in comparison.arms]
    return Recorded([name for name in wanted if any(name in arm.curves for arm in arms)], arms, faults)


def _arm(arm: Arm, wanted: Sequence[str], faults: list[str]) -> ArmRows:
    ended, diverged = [[_rows(run, wanted, faults) for run in runs] for runs in (arm.runs, arm.diverged)]
    curves = {}
    for figure in wanted:
        drawn = curve(
            [rows.tracks[figure] for rows in ended if figure in rows.tracks],
            [rows.tracks[figure] for rows in diverged if figure in rows.tracks],
            average=figure.startswith("train/"),
        )
        if drawn is not None:
            curves[figure] = drawn
    samples = [(run.seed, *rows.samples[0]) for run, rows in zip(arm.runs, ended, strict=True) if rows.samples]
    return ArmRows(curves, samples[0] if samples else None)


def _rows(run: RunResult, wanted: Sequence[str], faults: list[str]) -> RunRows:
    rows = read_rows(run.folder, wanted)
    if rows.fault:
        faults.append(rows.fault)
    return rows
