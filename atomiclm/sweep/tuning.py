"""A setting chosen separately for every arm: trials, the choice, and a longer grid where the optimum is at its end."""

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from atomiclm.cli import UserError
from atomiclm.config.compose import override_key
from atomiclm.sweep.ledger import TunedValue
from atomiclm.sweep.plan import PlannedCell, validate_cells
from atomiclm.sweep.run_status import summary_of
from atomiclm.sweep.study import Study, Tuning
from atomiclm.tracking import RunFolder

TUNING_SUFFIX = "-tuning"
"""Trials lie in a folder of their own: their figures are of another text and are no results."""

Grids = Mapping[str, Sequence[float]]
"""The values that are tried, by arm."""


@dataclass(frozen=True)
class Trial:
    """A value tried for an arm, and the cell that tries it."""

    arm: str
    value: float
    planned: PlannedCell


def trial_overrides(
    tuning: Tuning, arms: Mapping[str, Sequence[str]], typed: Sequence[str], name: str, grids: Grids
) -> list[tuple[str, float, list[str]]]:
    """Return (arm, value, overrides) of every trial of the study `name`: seed by seed, the positions of the grids in
    turn. The overrides that make an arm replace those that were typed."""
    replaced = {"seed", "arm", "name", tuning.key, *(override_key(one) for own in arms.values() for one in own)}
    shared = [one for one in typed if override_key(one) not in replaced]
    apart = ["held_out=dev", f"name={name}{TUNING_SUFFIX}"]
    return [
        (arm, value, [*shared, *arms[arm], f"seed={seed}", f"{tuning.key}={value!r}", *apart])
        for seed in tuning.seeds
        for values in zip(*grids.values(), strict=True)
        for arm, value in zip(grids, values, strict=True)
    ]


def plan_trials(
    tuning: Tuning, arms: Mapping[str, Sequence[str]], typed: Sequence[str], name: str, grids: Grids
) -> list[Trial]:
    """Return the validated trials in the folder `name`-tuning."""
    listed = trial_overrides(tuning, arms, typed, name, grids)
    last = tuning.key.rpartition(".")[2]
    names = [f"{arm} {last}={value!r}" for arm, value, _ in listed]
    planned = validate_cells([overrides for _, _, overrides in listed], names, swept=[tuning.key])
    return [Trial(arm, value, one) for (arm, value, _), one in zip(listed, planned, strict=True)]


def tune(
    study: Study,
    arms: Collection[str],
    plan: Callable[[Grids], Sequence[Trial]],
    train: Callable[[Sequence[PlannedCell]], None],
) -> dict[str, TunedValue]:
    """Train the trials of every arm and choose; extend the grid for all arms alike while one of them is at an end.

    UserError: an arm of which no value trained to its end.
    """
    tuning = study.tuning
    assert tuning is not None
    lower = higher = 0
    for extensions in range(tuning.max_extensions + 1):
        grids = {arm: tuning.grid(arm, lower, higher) for arm in arms}
        trials = plan(grids)
        train([trial.planned for trial in trials])
        scores: dict[str, dict[float, list[float]]] = {arm: {} for arm in arms}
        for trial in trials:
            summary = summary_of(RunFolder(trial.planned.run.folder))
            figure = summary.get(study.metric) if summary.get("state") == "done" else None
            score = float(figure) if isinstance(figure, int | float) else math.nan
            scores[trial.arm].setdefault(trial.value, []).append(score)
        is_lower_better = study.direction == "lower"
        chosen = {arm: choose(tuning, grids[arm], scores[arm], is_lower_better) for arm in arms}
        at_start = any(chosen[arm].value == grids[arm][0] for arm in arms)
        at_end = any(chosen[arm].value == grids[arm][-1] for arm in arms)
        if not (at_start or at_end) or extensions == tuning.max_extensions:
            break
        lower, higher = lower + at_start, higher + at_end
    return chosen


def choose(
    tuning: Tuning, values: Sequence[float], scores: Mapping[float, Sequence[float]], is_lower_better: bool
) -> TunedValue:
    """Return the value with the best mean over the tuning seeds; a trial without a figure rules its value out.

    UserError: no value has figures for all its trials.
    """
    means = {value: statistics.fmean(scores[value]) if scores.get(value) else math.nan for value in values}
    finite = {value: mean for value, mean in means.items() if math.isfinite(mean)}
    if not finite:
        raise UserError(f"tuning failed: {tuning.key}: none of {', '.join(map(repr, values))} trained to its end")
    best = min(finite, key=lambda value: finite[value] if is_lower_better else -finite[value])
    # A neighbour that diverged bounds the optimum as well as one that is worse.
    interior = 0 < list(values).index(best) < len(values) - 1
    return TunedValue(best, {repr(value): mean for value, mean in means.items()}, interior)


def describe(tuning: Tuning, chosen: Mapping[str, TunedValue]) -> list[str]:
    """What was chosen, a line an arm."""
    lines = [f"{tuning.key} chosen on the dev split, seed {', '.join(map(str, tuning.seeds))}:"]
    for arm, choice in chosen.items():
        tried = "  ".join(f"{value} {mean:.4f}" for value, mean in choice.trials.items())
        end = "" if choice.interior else "  (at the end of the grid)"
        lines.append(f"  {arm}: {choice.value!r}{end}   {tried}")
    return lines
