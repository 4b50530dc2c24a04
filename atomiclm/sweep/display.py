"""What a sweep prints while it trains: a line for each cell that ends, and what the running cells are doing.

Everything is read from the run folders, so it is the same whichever launcher runs the cells, and wherever.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from atomiclm.cli import UserError
from atomiclm.sweep.ledger import LEDGER_FILE, Cell
from atomiclm.sweep.run_status import LOG, summary_of
from atomiclm.sweep.study import Study
from atomiclm.tracking.console import duration, is_redrawn
from atomiclm.tracking.run_folder import RunFolder, digest_of, runs_in
from atomiclm.tracking.run_result import read_run

POLL_SECONDS = 0.5
FIRST_REPORT_SECONDS = 3.0
LONGEST_SILENCE_SECONDS = 60.0
"""Without a terminal the running cells are reported after the first, and then at intervals that double up to this."""

MOST_RUNNING = 8
"""Running cells that a terminal shows, the last to say something first."""

_TAIL_BYTES = 4096


class Display:
    """Shows the cells that are `left` of `total` as they end, with the figure `metric` of their summaries; a context,
    inside which a thread watches the run folders."""

    def __init__(
        self, folder: Path, left: Sequence[Cell], total: int, metric: str, stream: TextIO | None = None
    ) -> None:
        self.folder, self.left, self.total, self.metric = folder, list(left), total, metric
        self.stream = sys.stdout if stream is None else stream
        # By the clock of the file system, which may not be this machine's: the ledger has just been written.
        self.began = _modified(folder / LEDGER_FILE) or time.time()
        self.started = time.monotonic()
        self.ended = 0
        self.width = max((len(cell.arm) for cell in left), default=0)
        self.interval = FIRST_REPORT_SECONDS
        self.shown = time.monotonic()
        self.live = Live(
            console=Console(file=self.stream), auto_refresh=False, transient=True, redirect_stdout=False,
            redirect_stderr=False,
        ) if is_redrawn(self.stream) else None  # fmt: skip
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._watch, name="display", daemon=True)

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
            self.live.console.show_cursor(True)  # or a kill would leave the terminal without
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        if self.live:
            self.live.stop()

    def _watch(self) -> None:
        is_over = False
        while not is_over:
            is_over = self.over.wait(POLL_SECONDS)
            self.look()

    def look(self, returned: Sequence[tuple[Cell, str | None]] = ()) -> None:
        """Look at the run folders now, and at what ended jobs failed of: some end without a summary of their run."""
        with self.lock, suppress(OSError):  # the folder is being changed, or nobody reads what is printed
            self._look()
        with self.lock, suppress(OSError):
            for cell, failure in returned:
                if cell in self.left:
                    self._end(cell, _failed(failure) if failure else "ended before")

    def _look(self) -> None:
        """Print the cells that have ended since the last look, and what the others are doing."""
        runs = {digest_of(entry.name): Path(entry.path) for entry in os.scandir(self.folder)}
        doing: list[tuple[float, str]] = []
        for cell in list(self.left):
            path = runs.get(cell.digest)
            if path is None:
                continue
            if (summary := self._ended(RunFolder(path))) is not None:
                self._end(cell, self._result(summary))
            elif (spoke := _modified(path / LOG)) >= self.began:
                doing.append((spoke, f"{cell.arm} seed {cell.seed}: {_last_line(path / LOG) or 'starting'}"))
        lines = [line for _, line in sorted(doing, reverse=True)]
        if self.live:
            more = [f"and {len(lines) - MOST_RUNNING} more"] if len(lines) > MOST_RUNNING else []
            whole = f"{self.total - len(self.left)} of {self.total} done{self._time_left()}"
            text = "\n".join([*lines[:MOST_RUNNING], *more, whole])
            self.live.update(Text(text, no_wrap=True, overflow="ellipsis", style="dim"), refresh=True)
        elif lines and time.monotonic() - self.shown >= self.interval:
            self.interval = min(2 * self.interval, LONGEST_SILENCE_SECONDS)
            others = f"  (and {len(lines) - 1} more running)" if len(lines) > 1 else ""
            self._say(f"{lines[0]}{others}")

    def _ended(self, folder: RunFolder) -> dict[str, Any] | None:
        """The summary of a run that has come to an end since the sweep began."""
        if _modified(folder.summary) < self.began:
            return None
        try:
            summary = summary_of(folder)
        except UserError:  # damaged; the end of the sweep says so
            return None
        return summary if summary.get("state") in ("done", "diverged", "failed") else None

    def _end(self, cell: Cell, result: str) -> None:
        self.left.remove(cell)
        self.ended += 1
        number = self.total - len(self.left)
        which = f"{number:{len(str(self.total))}} of {self.total}  {cell.arm:{self.width}}  seed {cell.seed}"
        self._say(f"{which}  {result}{self._time_left()}")

    def _result(self, summary: dict[str, Any]) -> str:
        figure = summary.get(self.metric)
        if summary["state"] == "failed":
            error = summary.get("error", {})
            return _failed(f"{error.get('type')}: {error.get('message')}")
        if summary["state"] == "diverged" or not isinstance(figure, int | float):
            return str(summary["state"])
        return f"{figure:.4f} bits per byte" if self.metric == Study.metric else f"{self.metric} {figure:.5g}"

    def _time_left(self) -> str:
        """At the pace at which cells have ended so far, however many run at a time."""
        if not self.left or not self.ended:
            return ""
        return f", {duration((time.monotonic() - self.started) / self.ended * len(self.left))} left"

    def _say(self, line: str) -> None:
        self.shown = time.monotonic()
        if self.live:
            self.live.console.print(Text(line), soft_wrap=True)
        else:
            self.stream.write(f"{line}\n")
            self.stream.flush()


def failed_since_start(folder: Path) -> str:
    """Name of a run in `folder` that has failed since its ledger was written, as every sweep does first; "" if none."""
    ledger = folder / LEDGER_FILE
    begun = _modified(ledger) if ledger.is_file() else float("inf")
    late = (run for run in runs_in(folder) if _modified(run.summary) > begun)
    return next((run.run_id for run in late if read_run(run).state == "failed"), "")


def _failed(failure: str) -> str:
    return f"failed: {failure.partition(chr(10))[0]:.200}"


def _modified(file: Path) -> float:
    """When a file was last written to, in seconds since 1970; 0 where there is none."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _last_line(log: Path) -> str:
    """The last line that a run has printed about itself; samples of its text are indented."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        lines: Iterator[str] = reversed(file.read().decode("utf-8", "replace").splitlines())
    return next((line for line in lines if line and not line.startswith(" ")), "")
