"""The rows of `metrics.jsonl` as curves: what every seed of an arm had at the same fraction of its budget.

Seeds never log at the same second. So each is interpolated, in its figure and in all four x axes, at common fractions f
of the budget, with which a curve ends where the table's figure is:

    x(f) = mean over seeds of x_s(f),    y(f) = mean over seeds of y_s(f),    band: the least and the largest y_s(f)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomiclm.cli import UserError
from atomiclm.comparison.results import Arm, Comparison
from atomiclm.tracking.record import AXES
from atomiclm.tracking.run_folder import RunFolder

MOST_POINTS = 90
"""Of a curve: one every 8 pixels of a wide chart."""
MOST_POINTS_OF_ALL = 1500
"""Of a sweep over several factors, whose page has curves by factor as well, and stays small."""

_ALWAYS = ("validation/bits_per_byte", "train/loss")
_TOLERANCE = 1e-5  # of fractions: the record rounds the progress to six decimals

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """One figure of one run: its points in the order of the steps."""

    fractions: Numbers  # of the budget used
    axes: Mapping[str, Numbers]  # step, tokens, seconds, flops
    values: Numbers


@dataclass(frozen=True)
class RunRows:
    """What one run recorded."""

    tracks: Mapping[str, Track] = field(default_factory=dict)  # by figure; only those with a point
    samples: Sequence[tuple[str, str]] = ()  # the texts written last: prompt and text of each
    fault: str = ""  # why there is nothing; "" where all is well


@dataclass(frozen=True)
class Curve:
    """One figure of an arm."""

    axes: Mapping[str, Numbers]  # mean over the seeds of step, tokens, seconds and flops at each point
    values: Numbers  # (seeds, points); NaN where a seed has none
    # How many seeds, the first ones, ran to the end. The others diverged: they have a line, and no part in mean and
    # band, as in the table.
    ended: int

    def mean(self) -> Numbers:
        """Over the seeds that ended, at each point; NaN where one has none, since a mean over fewer would jump."""
        return self._ended().mean(axis=0)

    def band(self) -> tuple[Numbers, Numbers]:
        """Least and largest seed that ended, at each point; NaN where one has none."""
        return self._ended().min(axis=0), self._ended().max(axis=0)

    def _ended(self) -> Numbers:
        return self.values[: self.ended] if self.ended else np.full_like(self.values[:1], math.nan)


@dataclass(frozen=True)
class ArmRows:
    """What was recorded of one arm."""

    curves: Mapping[str, Curve]  # by figure; one that no run recorded is not there
    sample: tuple[object, str, str] | None  # seed, prompt and text of the first sample of the first seed that has one


@dataclass(frozen=True)
class Recorded:
    """What was recorded, by arm in the comparison's order."""

    figures: Sequence[str]  # those that any arm has a curve of, the deciding one first
    arms: Sequence[ArmRows]
    faults: Sequence[str]  # files that could not be read, and why


def read_recorded(comparison: Comparison) -> Recorded:
    """Read the records of all runs that ended or diverged."""
    names = dict.fromkeys((comparison.metric, *_ALWAYS))
    wanted = [name for name in names if name.split("/")[0] in ("validation", "train")]
    faults: list[str] = []
    points = MOST_POINTS
    if comparison.factors:
        points = min(points, max(20, MOST_POINTS_OF_ALL // len(comparison.arms)))
    arms = [_arm(arm, wanted, points, faults) for arm in comparison.arms]
    return Recorded([name for name in wanted if any(name in arm.curves for arm in arms)], arms, faults)


def _arm(arm: Arm, wanted: Sequence[str], points: int, faults: list[str]) -> ArmRows:
    ended, diverged = [[read_rows(run.folder, wanted) for run in runs] for runs in (arm.runs, arm.diverged)]
    faults += [rows.fault for rows in (*ended, *diverged) if rows.fault]
    curves = {}
    for figure in wanted:
        tracks, lost = ([rows.tracks[figure] for rows in some if figure in rows.tracks] for some in (ended, diverged))
        if (drawn := curve(tracks, lost, points, average=figure.startswith("train/"))) is not None:
            curves[figure] = drawn
    samples = ((run.seed, *rows.samples[0]) for run, rows in zip(arm.runs, ended, strict=True) if rows.samples)
    return ArmRows(curves, next(samples, None))


def read_rows(folder: RunFolder, figures: Sequence[str]) -> RunRows:
    """Read the points of `figures`, each in the rows of the event before its slash, and the last samples of a record.

    Training rows carry the fraction of the budget; other rows have it by their step. Rows that are not what a run
    writes are passed over: a comparison must not fail because one file was touched.
    """
    try:
        rows = folder.read_rows()
    except UserError as error:
        return RunRows(fault=str(error))
    placed = [row for row in rows if all(_is_number(row.get(axis)) and math.isfinite(row[axis]) for axis in AXES)]
    budget_steps = _budget_steps(placed)
    tracks = {}
    for figure in figures if budget_steps else ():
        event = figure.split("/")[0]
        points = [
            [float(row[name]) for name in (*AXES, figure)]
            for row in placed
            if row.get("event") == event and _is_number(row.get(figure))
        ]
        if points:
            *axes, values = np.array(sorted(points)).T
            tracks[figure] = Track(axes[0] / budget_steps, dict(zip(AXES, axes, strict=True)), values)
    samples = [row["samples"] for row in rows if row.get("event") == "sample" and isinstance(row.get("samples"), list)]
    last = [one for one in samples[-1] if isinstance(one, Mapping)] if samples else []
    return RunRows(tracks, [(str(one.get("prompt", "")), str(one.get("text", ""))) for one in last])


def _budget_steps(rows: Sequence[Mapping[str, Any]]) -> float:
    """Steps of the whole budget: by the last row that says what fraction is used, else the last step; 0 without."""
    for row in reversed(rows):
        progress = row.get("progress")
        if _is_number(progress) and 0 < progress <= 1 and row["step"] > 0:
            return float(row["step"] / progress)
    return float(max((row["step"] for row in rows), default=0))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def curve(
    ended: Sequence[Track], diverged: Sequence[Track] = (), points: int = MOST_POINTS, average: bool = False
) -> Curve | None:
    """One arm's curve of at most so many points from the tracks of its seeds; None without any.

    average: whether a point is the mean of all rows since the one before (a training loss, which is noisy), or its own
    row (a validation).
    """
    if not ended and not diverged:
        return None
    tracks = [_thinned(track, points, average) for track in (*ended, *diverged)]
    counted = tracks[: len(ended)] or tracks
    grid = max((track.fractions for track in counted), key=len)
    axes = {axis: np.nanmean([_at(grid, track, track.axes[axis]) for track in counted], axis=0) for axis in AXES}
    return Curve(axes, np.array([_at(grid, track, track.values) for track in tracks]), len(ended))


def _thinned(track: Track, points: int, average: bool) -> Track:
    positions = thinned_positions(len(track.values), points)
    # The axes are averaged too: a mean of falling values, put at the end of its bin, would lag behind.
    starts = np.concatenate([[0], positions[:-1] + 1])

    def thin(column: Numbers) -> Numbers:
        return np.add.reduceat(column, starts) / (positions - starts + 1) if average else column[positions]

    return Track(thin(track.fractions), {axis: thin(column) for axis, column in track.axes.items()}, thin(track.values))


def thinned_positions(count: int, points: int) -> NDArray[np.intp]:
    """At most `points` of the positions 0 ... count - 1, the last too: half evenly apart, half in equal ratios.

    So neither a straight nor a logarithmic axis is left bare.
    """
    if count <= points:
        return np.arange(count)
    half = points // 2
    even, ratios = np.linspace(0, count - 1, half), np.geomspace(1, count, half) - 1
    return np.unique(np.concatenate([even, ratios]).round().astype(np.intp))


def _at(grid: Numbers, track: Track, values: Numbers) -> Numbers:
    """`values` at the fractions of `grid`, straight between neighbours; NaN outside.

    All seeds of one budget have the same fractions; then every number is a measured one.
    """
    between = np.interp(grid, track.fractions, values, left=math.nan, right=math.nan)
    nearest = np.searchsorted(track.fractions, grid - _TOLERANCE).clip(max=len(values) - 1)
    return np.where(np.abs(track.fractions[nearest] - grid) <= _TOLERANCE, values[nearest], between)
