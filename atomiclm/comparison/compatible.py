"""Which runs may stand in one table. Figures measured in unlike ways are refused, naming what differs."""

import difflib
import math
from collections.abc import Sequence
from typing import Any

from atomiclm.evaluation.protocol import Described, differences, recorded_protocol
from atomiclm.tracking.run_result import RunResult
from atomiclm.user_error import UserError

_ADVICE = (
    "Compare the folders of one text at a time, with one validation_fraction and one trainer.separate_documents, or "
    "train with another name=..."
)

TOO_LARGE = 1e100
"""No run reports such a figure: what is computed in float32 ends at 3e38. Squares of smaller ones are numbers."""


def refuse_unlike(runs: Sequence[RunResult], metric: str) -> None:
    """Refuse finished runs that cannot be compared.

    Raises:
        ValueError: they were measured by different protocols or on different validation bytes, report different
            validation figures, one seed of a variant is there twice, or the metric is not in all of them.
    """
    _same_protocol(runs)
    _same_figures(runs)
    _distinct_seeds(runs)
    _known_metric(runs, metric)


def _same_protocol(runs: Sequence[RunResult]) -> None:
    first: tuple[Described, RunResult] | None = None
    for run in runs:
        described = recorded_protocol(run.summary, run.config, run.environment)
        if described is None:  # nothing was validated: whether it has the metric is asked elsewhere
            continue
        first = first or (described, run)
        if reasons := differences(first[0], described):
            rule = "they were not measured alike, so their figures cannot be compared"
            raise UserError(f"{first[1].folder.path} and {run.folder.path}: {rule}: {'; '.join(reasons)}. {_ADVICE}")


def _same_figures(runs: Sequence[RunResult]) -> None:
    for run in runs[1:]:
        mine, first = _validation_figures(run), _validation_figures(runs[0])
        if mine != first:
            names = ", ".join(sorted(mine ^ first))
            here, there = (run, runs[0]) if mine - first else (runs[0], run)
            raise UserError(
                f"validation figures differ, so the runs were measured in different ways: {here.folder.path} reports "
                f"{names}, {there.folder.path} does not; compare runs of one kind"
            )


def _validation_figures(run: RunResult) -> set[str]:
    return {name for name in numbers_of(run) if name.startswith("validation/")}


def numbers_of(run: RunResult) -> dict[str, float]:
    """The numbers of a run's summary, by name; whole numbers that only tell runs apart are not among them.

    One that is too large to compute with is infinite.
    """
    return {
        name: math.inf if value >= TOO_LARGE else -math.inf if value <= -TOO_LARGE else value
        for name, value in run.summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "seed"
    }


def _distinct_seeds(runs: Sequence[RunResult]) -> None:
    """Two copies of one run are not two measurements, and would make the spread too small."""
    seen: dict[tuple[str, Any], RunResult] = {}
    for run in runs:
        twin = seen.setdefault((run.variant, run.seed), run)
        if twin is not run:
            raise UserError(
                f"seed {run.seed} of variant {run.variant} is there twice: {twin.folder.path} and {run.folder.path}; "
                f"give only one of them"
            )


def _known_metric(runs: Sequence[RunResult], metric: str) -> None:
    known = sorted({name for run in runs for name in numbers_of(run)})
    if runs and metric not in known:
        close = difflib.get_close_matches(metric, known, n=3, cutoff=0.3) or known
        raise UserError(f"--metric: no finished run reports {metric!r}; there are: {', '.join(close)}")
    for run in runs:
        if metric not in numbers_of(run):
            raise UserError(f"--metric: {run.folder.path} does not report {metric!r}, others do; choose another")
