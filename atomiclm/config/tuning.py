"""A setting chosen anew for every arm: trials, the choice, and a longer grid where the optimum is at its end."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from atomiclm.config.planning import Wanted
from atomiclm.config.standing import summary_of
from atomiclm.sweep.ledger import TunedValue
from atomiclm.sweep.study import Study, Tuning
from atomiclm.tracking import RunFolder
from atomiclm.user_error import UserError

TUNING_SUFFIX = "-tuning"
"""Trials lie in a folder of their own: their figures are of another text and are no results."""


def trial_overrides(
    study: Study, typed: Sequence[str], name: str, grids: Mapping[str, Sequence[float]]
) -> list[tuple[str, float, list[str]]]:
    """Return (arm, value, overrides) of every trial: seed by seed, and the places of the grid in turn."""
    assert study.tuning is not None
    return [
        (
            arm,
            grids[arm][place],
            [
                *typed,
                f"arm={arm}",
                f"seed={seed}",
                f"{study.tuning.key}={grids[arm][place]!r}",
                "held_out=dev",
                f"name={name}{TUNING_SUFFIX}",
            ],
        )
        for seed in study.tuning.seeds
        for place in range(len(next(iter(grids.values()))))
        for arm in study.arms
    ]


def choose(tuning: Tuning, values: Sequence[float], scores: Mapping[float, Sequence[float]], lower: bool) -> TunedValue:
    """Return the value with the best mean over the tuning seeds; a trial without a figure rules its value out.

    Raises:
        ValueError: no value has figures for all its trials.
    """
    sign = 1.0 if lower else -1.0
    means = {value: statistics.fmean(scores[value]) if scores.get(value) else math.nan for value in values}
    finite = {value: mean for value, mean in means.items() if math.isfinite(mean)}
    if not finite:
        raise UserError(f"tuning failed: {tuning.key}: none of {', '.join(map(repr, values))} trained to its end")
    best = min(finite, key=lambda value: sign * finite[value])
    place = list(values).index(best)
    # A neighbour that diverged bounds the optimum as well as one that is worse.
    interior = 0 < place < len(values) - 1
    return TunedValue(best, {repr(value): mean for value, mean in means.items()}, interior)


def tune(
    study: Study,
    trials_of: Callable[[Mapping[str, Sequence[float]]], Sequence[tuple[str, float, Wanted]]],
    train: Callable[[Sequence[Wanted]], None],
) -> dict[str, TunedValue]:
    """Train the trials of every arm and choose; extend the grid for all arms alike while one of them is at an end.

    Args:
        study: with a tuning.
        trials_of: (arm, value, cell) of every trial, given the grid of each arm.
        train: trains those that have not ended.

    Raises:
        ValueError: an arm of which no value trained to its end.
    """
    assert study.tuning is not None
    lower = higher = 0
    for extensions in range(study.tuning.max_extensions + 1):
        grids = {arm: study.tuning.grid(arm, lower, higher) for arm in study.arms}
        trials = trials_of(grids)
        train([wanted for _, _, wanted in trials])
        scores: dict[str, dict[float, list[float]]] = {arm: {} for arm in study.arms}
        for arm, value, wanted in trials:
            scores[arm].setdefault(value, []).append(_score(wanted.run.folder, study.metric))
        is_lower = study.direction == "lower"
        chosen = {arm: choose(study.tuning, grids[arm], scores[arm], is_lower) for arm in study.arms}
        at_start = any(chosen[arm].value == grids[arm][0] for arm in study.arms)
        at_end = any(chosen[arm].value == grids[arm][-1] for arm in study.arms)
        if not (at_start or at_end) or extensions == study.tuning.max_extensions:
            break
        lower, higher = lower + at_start, higher + at_end
    return chosen


def _score(folder: Path, metric: str) -> float:
    """The metric of a trial, NaN of one that diverged or failed."""
    summary = summary_of(RunFolder(folder))
    value = summary.get(metric)
    return float(value) if summary.get("state") == "done" and isinstance(value, int | float) else math.nan
