"""Where a sweep stands, at a glance: one row an arm, one sign a seed."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atomiclm.sweep.ledger import LEDGER_FILE, Cell
from atomiclm.sweep.run_status import ended
from atomiclm.tracking.console import duration
from atomiclm.tracking.lock import is_locked
from atomiclm.tracking.run_folder import RunFolder, find_cell, runs_in
from atomiclm.tracking.run_result import RunResult, read_run

SIGNS = {
    "done": "✓",
    "diverged": "∞",
    "failed": "✗",
    "torn": "✗",
    "running": "●",
    "interrupted": "◐",
    "missing": "·",
}
MOST_ROWS = 12
"""Arms that are listed one by one; of more, only the counts are told."""


@dataclass(frozen=True)
class Board:
    """The cells of a sweep and what became of each so far.

    Attributes:
        cells: what is wanted.
        states: of each cell, as its run folder says; "missing" where there is none.
        seconds: training seconds of each cell that ended, NaN of the others.
        metric: the figure of each cell that ended, NaN of the others.
    """

    cells: Sequence[Cell]
    states: Sequence[str]
    seconds: Sequence[float]
    metric: Sequence[float]

    @classmethod
    def read(cls, folder: Path, cells: Sequence[Cell], metric: str) -> "Board":
        """Look at the run folders of `cells` in `folder`."""
        paths = [find_cell(folder, cell.run_id) for cell in cells]
        runs = [read_run(RunFolder(path)) if path else None for path in paths]
        states = ["missing" if run is None else _state(run) for run in runs]

        def figures(name: str) -> list[float]:
            values = [
                run.summary.get(name) if run and state == "done" else None
                for run, state in zip(runs, states, strict=True)
            ]
            return [float(value) if isinstance(value, int | float) else math.nan for value in values]

        return cls(cells, states, figures("seconds"), figures(metric))

    def headline(self, one_by_one: bool = True) -> str:
        """How many cells are in which state; one by one, also how long the rest takes at the pace of those done."""
        counts = Counter(self.states)
        parts = [f"{counts['done']} of {len(self.cells)} done"]
        parts += [f"{counts[state]} {state}" for state in SIGNS if state not in ("done", "missing") and counts[state]]
        known = [seconds for seconds in self.seconds if not math.isnan(seconds)]
        left = sum(state not in ("done", "diverged") for state in self.states)
        if known and left and one_by_one:
            parts.append(f"about {duration(left * statistics.median(known))} of training left")
        return ", ".join(parts)

    def rows(self) -> list[str]:
        """One line an arm: its name, a sign a cell, the mean of what is there."""
        arms = list(dict.fromkeys(cell.arm for cell in self.cells))
        if len(arms) > MOST_ROWS:
            return []
        width = max(map(len, arms))
        lines = []
        for arm in arms:
            own = [index for index, cell in enumerate(self.cells) if cell.arm == arm]
            figures = [self.metric[index] for index in own if not math.isnan(self.metric[index])]
            signs = " ".join(SIGNS.get(self.states[index], "?") for index in own)
            mean = f"   {statistics.fmean(figures):.4f}" if figures else ""
            lines.append(f"{arm:{width}}  {signs}{mean}")
        return lines


def failed_since_start(folder: Path) -> str:
    """Name of a run in `folder` that has failed since its ledger was written, as every sweep does first; "" if none."""
    ledger = folder / LEDGER_FILE
    if not ledger.is_file():
        return ""
    begun = ledger.stat().st_mtime
    late = [run for run in runs_in(folder) if run.summary.is_file() and run.summary.stat().st_mtime > begun]
    return next((run.run_id for run in late if read_run(run).state == "failed"), "")


def _state(run: RunResult) -> str:
    if run.state == "torn" and is_locked(run.folder.path):
        return "running"  # it has only just begun, and has not all of its files
    if run.state == "done" and ended(run.folder) is None:
        return "torn"  # files are gone: it is trained again
    return run.state
