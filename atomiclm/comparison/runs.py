"""The runs and the plan at the paths that a user gives."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from atomiclm.cli import UserError
from atomiclm.config.cost import CACHE_DTYPE
from atomiclm.sweep.ledger import LEDGER_FILE, StudyLedger, read_ledger
from atomiclm.tracking.run_folder import RunFolder, near, runs_in
from atomiclm.tracking.run_result import RunResult, read_run

_BYTES_OF = {"float32": 4, "bfloat16": 2}


def read_runs(paths: Sequence[str | Path]) -> list[RunResult]:
    """Read the runs at `paths`, each a run folder or a folder of run folders (`outputs/<name>`).

    A run given twice counts once. Runs without usable files are kept, with the state "torn" and the reason.

    Raises:
        ValueError: a path does not exist (near ones are named) or holds no runs.
    """
    folders = [folder for path in paths for folder in _folders_at(Path(path))]
    unique = {folder.path.resolve(): folder for folder in folders}
    return [_cache_in_one_dtype(read_run(folder)) for folder in unique.values()]


def read_plan(paths: Sequence[str | Path]) -> StudyLedger | None:
    """The plan of the sweep at `paths`: of the one folder of a study; None for anything else.

    Raises:
        ValueError: its `study.json` is damaged.
    """
    return read_ledger(Path(paths[0]).expanduser()) if len(paths) == 1 else None


def _cache_in_one_dtype(run: RunResult) -> RunResult:
    """Convert the cache bytes of a run of before summaries named their dtype: they were in the run's precision.

    Where that is not on record, nobody knows what they were counted in, and they are left out.
    """
    cache_bytes = run.summary.get("cache_bytes_per_token")
    if not isinstance(cache_bytes, int) or "cache_dtype" in run.summary:
        return run
    precision = str(run.environment.get("precision"))
    if precision not in _BYTES_OF:
        summary = {name: value for name, value in run.summary.items() if name != "cache_bytes_per_token"}
        return replace(run, summary=summary)
    in_one_dtype = cache_bytes * _BYTES_OF[CACHE_DTYPE] // _BYTES_OF[precision]
    return replace(run, summary={**run.summary, "cache_bytes_per_token": in_one_dtype, "cache_dtype": CACHE_DTYPE})


def _folders_at(path: Path) -> list[RunFolder]:
    path = path.expanduser()
    if not path.is_dir():
        if path.exists():
            raise UserError(f"PATH: {str(path)!r} is a file; give the run folder that holds it")
        siblings = [str(other) for other in path.parent.iterdir() if other.is_dir()] if path.parent.is_dir() else []
        siblings += [str(other) for other in Path("outputs").glob("*") if other.is_dir()]
        raise UserError(f"PATH: no folder {str(path)!r}{near(str(path), sorted(set(siblings)))}")
    if RunFolder(path).looks_like_a_run():
        return [RunFolder(path)]
    if (inside := runs_in(path)) or (path / LEDGER_FILE).is_file():
        return inside
    if deeper := [other for other in sorted(path.iterdir()) if runs_in(other)]:
        shown = ", ".join(str(other) for other in deeper[:5]) + (", ..." if len(deeper) > 5 else "")
        raise UserError(f"PATH: {str(path)!r} holds studies, not runs; give one or more of: {shown}")
    raise UserError(f"PATH: no runs in {str(path)!r}")
