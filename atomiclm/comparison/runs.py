"""The runs and the plan at the paths that a user gives, and which of them may stand in one table."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atomiclm.cli import UserError
from atomiclm.config.errors import nearest
from atomiclm.sweep.ledger import LEDGER_FILE, StudyLedger, read_ledger
from atomiclm.tracking.run_folder import RunFolder, near, runs_in
from atomiclm.tracking.run_result import RunResult, read_run

_ADVICE = (
    "Compare the folders of one text at a time, with one validation_fraction and one trainer.separate_documents, or "
    "train with another name=..."
)

_WORDS = {"validation_sha256": "validation bytes", "separate_documents": "documents apart"}

TOO_LARGE = 1e100
"""No run reports such a figure: what is computed in float32 ends at 3e38. Squares of smaller ones are numbers."""

Facts = Mapping[str, Any]
"""How figures came about: the `protocol`, what must agree (`compared`), what may differ (`recorded`)."""


def read_runs(paths: Sequence[str | Path]) -> list[RunResult]:
    """Read the runs at `paths`, each a run folder or a folder of run folders (`outputs/<name>`).

    A run given twice counts once. Runs without usable files are kept, with the state "torn" and the reason. A path that
    does not exist (near ones are named) or holds no runs is a UserError.
    """
    folders = [folder for path in paths for folder in _folders_at(Path(path).expanduser())]
    unique = {folder.path.resolve(): folder for folder in folders}
    return [read_run(folder) for folder in unique.values()]


def read_plan(paths: Sequence[str | Path]) -> StudyLedger | None:
    """The plan of the sweep at `paths`: of the one folder of a study; None for anything else."""
    return read_ledger(Path(paths[0]).expanduser()) if len(paths) == 1 else None


def _folders_at(path: Path) -> list[RunFolder]:
    if not path.is_dir():
        if path.exists():
            raise UserError(f"PATH: {str(path)!r} is a file; give the run folder that holds it")
        siblings = [*(path.parent.iterdir() if path.parent.is_dir() else ()), *Path("outputs").glob("*")]
        names = sorted({str(other) for other in siblings if other.is_dir()})
        raise UserError(f"PATH: no folder {str(path)!r}{near(str(path), names)}")
    if RunFolder(path).looks_like_a_run():
        return [RunFolder(path)]
    if (inside := runs_in(path)) or (path / LEDGER_FILE).is_file():
        return inside
    if deeper := [other for other in sorted(path.iterdir()) if runs_in(other)]:
        shown = ", ".join(str(other) for other in deeper[:5]) + (", ..." if len(deeper) > 5 else "")
        raise UserError(f"PATH: {str(path)!r} holds studies, not runs; give one or more of: {shown}")
    raise UserError(f"PATH: no runs in {str(path)!r}")


def numbers_of(run: RunResult) -> dict[str, float]:
    """The numbers of a run's summary, by name; whole numbers that only tell runs apart are not among them.

    One that is too large to compute with is infinite.
    """
    return {
        name: math.inf if value >= TOO_LARGE else -math.inf if value <= -TOO_LARGE else value
        for name, value in run.summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "seed"
    }


def refuse_unlike(runs: Sequence[RunResult], metric: str) -> None:
    """Refuse finished runs that cannot be compared (UserError).

    They were measured by different protocols or on different validation bytes, report different validation figures, one
    seed of a variant is there twice, or the metric is not in all of them.
    """
    if not runs:
        return
    for run in runs:
        if reasons := differences(_protocol(runs[0]), _protocol(run)):
            rule = "they were not measured alike, so their figures cannot be compared"
            raise UserError(f"{runs[0].folder.path} and {run.folder.path}: {rule}: {'; '.join(reasons)}. {_ADVICE}")
    figures = [{name for name in numbers_of(run) if name.startswith("validation/")} for run in runs]
    for run, own in zip(runs, figures, strict=True):
        if own != figures[0]:
            here, there = (run, runs[0]) if own - figures[0] else (runs[0], run)
            raise UserError(
                f"validation figures differ, so the runs were measured in different ways: {here.folder.path} reports "
                f"{', '.join(sorted(own ^ figures[0]))}, {there.folder.path} does not; compare runs of one kind"
            )
    seen: dict[tuple[str, Any], RunResult] = {}
    for run in runs:  # two copies of one run are not two measurements, and would make the spread too small
        twin = seen.setdefault((run.variant, run.seed), run)
        if twin is not run:
            raise UserError(
                f"seed {run.seed} of variant {run.variant} is there twice: {twin.folder.path} and {run.folder.path}; "
                f"give only one of them"
            )
    known = {name for run in runs for name in numbers_of(run)}
    if metric not in known:
        raise UserError(f"--metric: no finished run reports {metric!r}{nearest(metric, known)}")
    for run in runs:
        if metric not in numbers_of(run):
            raise UserError(f"--metric: {run.folder.path} does not report {metric!r}, others do; choose another")


def _protocol(run: RunResult) -> Facts:
    facts: Facts = run.summary.get("protocol", {})
    match facts:
        case {"protocol": str(), "compared": Mapping(), "recorded": Mapping()}:
            return facts
    rule = "does not say how its figures were measured (protocol); remove the run's folder and train it again"
    raise UserError(f"{run.folder.path}: summary.json {rule}")


def differences(one: Facts, other: Facts) -> list[str]:
    """Why figures of the two must not be compared, one line a reason; empty: they may be."""
    if one["protocol"] != other["protocol"]:
        return [f"protocol: {one['protocol']} against {other['protocol']}"]
    return [
        f"{_WORDS.get(key, key.removesuffix('_sha256'))}: {_shown(one, key)} against {_shown(other, key)}"
        for key in sorted({*one["compared"], *other["compared"]})
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
