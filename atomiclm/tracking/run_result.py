"""One run as it lies on disk, whatever became of it."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from atomiclm.cli import UserError
from atomiclm.tracking.lock import is_locked
from atomiclm.tracking.run_folder import RunFolder


@dataclass(frozen=True)
class RunResult:
    """One run.

    Attributes:
        state: done, running, failed, interrupted, diverged (as its summary says), or torn: no summary can be read,
            though there should be one.
        config: the resolved configuration under dotted names ("model.attention.num_kv_heads").
        summary: the figures of `summary.json`; empty when torn.
        environment: of the process that trained it last, from `environment.json`.
        error: what went wrong, in one line; "" when nothing did.
    """

    folder: RunFolder
    state: str
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def done(self) -> bool:
        """Whether it ran to the end of its budget, so that its figures can be compared."""
        return self.state == "done"

    @property
    def variant(self) -> str:
        return str(self.summary["variant"])

    @property
    def seed(self) -> Any:
        return self.summary.get("seed")

    def progress(self) -> str:
        """How far it came, and for a run that says it is running how long ago it last said anything."""
        parts = []
        if self.summary.get("step"):
            parts.append(f"step {self.summary['step']}")
        if self.state == "running" and self.folder.metrics.exists():
            seconds = max(0.0, time.time() - self.folder.metrics.stat().st_mtime)
            units = ((86400, "d"), (3600, "h"), (60, "min"))
            size, unit = next(((size, unit) for size, unit in units if seconds >= size), (1, "s"))
            parts.append(f"last row {seconds / size:.0f} {unit} ago")
        return ", ".join(parts)


def read_run(folder: RunFolder) -> RunResult:
    """Read one run folder; what cannot be read is said in the result, not raised."""
    config, summary, environment, faults = dict[str, Any](), dict[str, Any](), dict[str, Any](), list[str]()
    try:
        config = dict(flatten(folder.read_config()))
    except UserError as error:
        faults.append(str(error))
    try:
        summary = folder.read_summary()
        faults += [f"summary.json has no {key!r}" for key in ("state", "variant") if key not in summary]
    except UserError as error:
        faults.append(str(error))
    with suppress(UserError):  # unreadable, it is no fault of the run's figures
        environment = folder.read_environments()[-1]
    if faults:
        state, summary, said = "torn", {}, "; ".join(faults)
        has_rows = folder.metrics.is_file() and folder.metrics.stat().st_size > 0
        has_begun = has_rows or any(map(os.path.lexists, (folder.summary, folder.checkpoints)))
        if not has_begun and _is_abandoned(folder):
            state, said = "interrupted", "stopped before its first row; the command that started it begins it again"
    elif summary["state"] == "running" and _is_abandoned(folder):
        state, said = "interrupted", "its process is gone; the command that started it resumes it"
    else:
        state, said = str(summary["state"]), error_line(summary.get("error"))
    return RunResult(folder, state, config, summary, environment, said)


def _is_abandoned(folder: RunFolder) -> bool:
    """Whether a process began the run and none is training it any more."""
    return (folder.path / ".lock").is_file() and not is_locked(folder.path)


def flatten(tree: Mapping[str, Any], separator: str = ".", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping under names joined by dots; a list is one leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The leaves in which two configurations differ, each as it was and as it is; None where it is not there."""
    old, new = dict(flatten(before)), dict(flatten(now))
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def error_line(error: Any) -> str:
    """What `summary.json` says went wrong, in one line."""
    if not error:
        return ""
    if not isinstance(error, Mapping):
        return str(error)
    lines = str(error.get("message", "")).strip().splitlines()
    return f"{error.get('type', 'Error')}: {lines[0]}" if lines else str(error.get("type", "Error"))
