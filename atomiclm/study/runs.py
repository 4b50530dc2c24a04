"""Runs as they lie on disk, whatever became of them."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomiclm.study.cost import CACHE_DTYPE
from atomiclm.study.ledger import LEDGER_FILE, StudyLedger, read_ledger
from atomiclm.tracking.run_folder import RunFolder, is_held, near, runs_in
from atomiclm.user_error import UserError

_BYTES_OF = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class RunResult:
    """One run.

    Attributes:
        folder: where it is.
        state: done, running, failed, interrupted, diverged (as its summary says), or torn: no summary can be read,
            though there should be one.
        config: the resolved configuration under dotted names ("model.attention.num_kv_heads").
        summary: the figures of `summary.json`; empty when torn.
        error: what went wrong, in one line; "" when nothing did.
        environment: of the process that trained it last, from `environment.json`; empty where that says nothing.
    """

    folder: RunFolder
    state: str
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether it ran to the end of its budget, so that its figures can be compared."""
        return self.state == "done"

    @property
    def variant(self) -> str:
        """The run's identity without its seed."""
        return str(self.summary["variant"])

    @property
    def seed(self) -> Any:
        """The run's seed."""
        return self.summary.get("seed")

    def progress(self) -> str:
        """How far it came, and for a run that says it is running how long ago it last said anything."""
        parts = []
        if self.summary.get("step"):
            parts.append(f"step {self.summary['step']}")
        if self.state == "running" and self.folder.metrics.exists():
            seconds = max(0.0, time.time() - self.folder.metrics.stat().st_mtime)
            parts.append(f"last row {_ago(seconds)} ago")
        return ", ".join(parts)


def read_runs(paths: Sequence[str | Path]) -> list[RunResult]:
    """Read the runs at `paths`, each a run folder or a folder of run folders (`outputs/<name>`).

    A run given twice counts once. Runs without usable files are kept, with the state "torn" and the reason.

    Raises:
        ValueError: a path does not exist (near ones are named) or holds no runs.
    """
    folders = [folder for path in paths for folder in _folders_at(Path(path))]
    unique = {folder.path.resolve(): folder for folder in folders}
    return [read_run(folder) for folder in unique.values()]


def read_plan(paths: Sequence[str | Path]) -> StudyLedger | None:
    """The plan of the sweep at `paths`: of the one folder of a study; None for anything else.

    Raises:
        ValueError: its `study.json` is damaged.
    """
    return read_ledger(Path(paths[0]).expanduser()) if len(paths) == 1 else None


def read_run(folder: RunFolder) -> RunResult:
    """Read one run folder; what cannot be read is said in the result, not raised."""
    faults = []
    config: dict[str, Any] = {}
    try:
        config = dict(flatten(folder.read_config()))
    except UserError as error:
        faults.append(str(error))
    try:
        summary = folder.read_summary()
    except UserError as error:
        faults.append(str(error))
    else:
        missing = [key for key in ("state", "variant") if key not in summary]
        faults.extend(f"summary.json has no {key!r}" for key in missing)
    environment = _environment(folder)
    if faults and not _has_begun(folder) and _is_abandoned(folder):
        said = "stopped before its first row; the command that started it begins it again"
        return RunResult(folder, "interrupted", config, error=said, environment=environment)
    if faults:
        return RunResult(folder, "torn", config, error="; ".join(faults), environment=environment)
    summary = _cache_in_one_dtype(summary, environment)
    if summary["state"] == "running" and _is_abandoned(folder):
        said = "its process is gone; the command that started it resumes it"
        return RunResult(folder, "interrupted", config, summary, said, environment)
    return RunResult(folder, str(summary["state"]), config, summary, _error(summary.get("error")), environment)


def _cache_in_one_dtype(summary: dict[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the cache bytes of a run of before summaries named their dtype: they were in the run's precision.

    Where that is not on record, nobody knows what they were counted in, and they are left out.
    """
    cache_bytes = summary.get("cache_bytes_per_token")
    if not isinstance(cache_bytes, int) or "cache_dtype" in summary:
        return summary
    precision = str(environment.get("precision"))
    if precision not in _BYTES_OF:
        return {name: value for name, value in summary.items() if name != "cache_bytes_per_token"}
    in_one_dtype = cache_bytes * _BYTES_OF[CACHE_DTYPE] // _BYTES_OF[precision]
    return {**summary, "cache_bytes_per_token": in_one_dtype, "cache_dtype": CACHE_DTYPE}


def _environment(folder: RunFolder) -> dict[str, Any]:
    """What the last process noted. Unreadable, it is no fault of the run's figures."""
    try:
        return folder.read_environments()[-1]
    except UserError:
        return {}


def _has_begun(folder: RunFolder) -> bool:
    """Whether there is anything that a run leaves once it trains."""
    if os.path.lexists(folder.summary) or os.path.lexists(folder.checkpoints):
        return True
    return folder.metrics.is_file() and folder.metrics.stat().st_size > 0


def _is_abandoned(folder: RunFolder) -> bool:
    """Whether a process began the run and none is training it any more."""
    return (folder.path / ".lock").is_file() and not is_held(folder)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping under dotted names; a list is one leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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


def _error(error: Any) -> str:
    if not error:
        return ""
    if not isinstance(error, Mapping):
        return str(error)
    lines = str(error.get("message", "")).strip().splitlines()
    return f"{error.get('type', 'Error')}: {lines[0]}" if lines else str(error.get("type", "Error"))


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
