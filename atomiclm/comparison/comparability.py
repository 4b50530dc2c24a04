"""Which runs may stand in one table. Figures measured in unlike ways are refused, naming what differs."""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from atomiclm.cli import UserError
from atomiclm.tracking.run_result import RunResult

_ADVICE = (
    "Compare the folders of one text at a time, with one validation_fraction and one trainer.separate_documents, or "
    "train with another name=..."
)

Facts = Mapping[str, Any]
"""How figures came about: the `protocol`, what must agree (`compared`), what may differ (`recorded`)."""

_WORDS = {"validation_sha256": "validation bytes", "separate_documents": "documents apart"}

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
    first: tuple[Facts, RunResult] | None = None
    for run in runs:
        try:
            described = recorded_protocol(run.summary, run.config, run.environment)
        except ValueError as error:
            raise UserError(f"{run.folder.path}: summary.json has {error}") from error
        if described is None:  # nothing was validated: whether it has the metric is asked elsewhere
            continue
        first = first or (described, run)
        if reasons := differences(first[0], described):
            rule = "they were not measured alike, so their figures cannot be compared"
            raise UserError(f"{first[1].folder.path} and {run.folder.path}: {rule}: {'; '.join(reasons)}. {_ADVICE}")


def recorded_protocol(
    summary: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, Any]
) -> Facts | None:
    """How the validation figures of a run came about, from its summary.json, config.yaml and environment.json.

    config: under dotted names ("model.context_length")

    A run whose summary does not say it (`protocol`) is from before protocols were written down: of the only one there
    was, end-to-end windows over the whole split, whose settings stand in these files. None: the run has no validation
    split on record (it ended before its summary had one).
    """
    if "protocol" in summary:
        facts: Facts = summary["protocol"]
        match facts:
            case {"protocol": str(), "compared": Mapping(), "recorded": Mapping()}:
                return facts
        raise ValueError("a protocol that cannot be read: it needs protocol, compared and recorded")
    if "validation_sha256" not in summary:
        return None
    processes = environment.get("processes") or [environment]
    recorded = {"context_length": config.get("model.context_length"), "precision": processes[-1].get("precision")}
    # Written by validation since documents could be kept apart; the configuration says it too, before the first.
    apart = bool(summary.get("validation/separate_documents", config.get("trainer.separate_documents", False)))
    return {
        "protocol": "bits_per_byte",
        "compared": {"revision": 1, "validation_sha256": summary["validation_sha256"], "separate_documents": apart},
        "recorded": {key: value for key, value in recorded.items() if value is not None},
    }


def differences(one: Facts, other: Facts) -> list[str]:
    """Why figures of the two must not be compared, one line a reason; empty: they may be."""
    if one["protocol"] != other["protocol"]:
        return [f"protocol: {one['protocol']} against {other['protocol']}"]
    keys = sorted({*one["compared"], *other["compared"]})
    return [
        f"{_WORDS.get(key, key.removesuffix('_sha256'))}: {_shown(one, key)} against {_shown(other, key)}"
        for key in keys
        if one["compared"].get(key) != other["compared"].get(key)
    ]


def _shown(facts: Facts, key: str) -> str:
    if key not in facts["compared"]:
        return "nothing on record"
    text = str(facts["compared"][key])
    if key.endswith("_sha256"):
        text = text[:12]
    source = facts["recorded"].get("source")
    return f"{text} (source {source})" if key == "validation_sha256" and source else text


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
