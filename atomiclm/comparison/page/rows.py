"""What the page reads of each run beside its summary: points of the curves, and samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atomiclm.comparison.comparison import Arm, Comparison
from atomiclm.comparison.curves import Curve, RunRows, curve, read_rows
from atomiclm.tracking.run_result import RunResult

ALWAYS = ("validation/bits_per_byte", "train/loss")


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
        name for name in dict.fromkeys((comparison.metric, *ALWAYS)) if name.split("/")[0] in ("validation", "train")
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
