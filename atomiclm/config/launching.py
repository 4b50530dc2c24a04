"""The cells of a sweep given to Hydra's launcher: one after another here, or several at once elsewhere."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from atomiclm.config.planning import Wanted
from atomiclm.config.run import job_name
from atomiclm.sweep.board import Board
from atomiclm.sweep.ledger import Cell
from atomiclm.tracking import is_locked

BASIC = "BasicLauncher"
"""Hydra's launcher that runs jobs in this process, one after the other."""

POLL_SECONDS = 2.0
"""How often the run folders are looked at while other processes train."""


@dataclass(frozen=True)
class Failure:
    """A cell that failed, and what it raised."""

    cell: Cell
    error: BaseException

    def __str__(self) -> str:
        message = str(self.error).strip() or "no message"
        return f"{self.cell.arm} seed {self.cell.seed}: {type(self.error).__name__}: {message}\n    {self.cell.command}"


@dataclass
class Launching:
    """Launches cells and shows where the sweep stands.

    Attributes:
        launcher: Hydra's, set up.
        folder: of the study's runs.
        metric: the figure that the board shows.
        fail_fast: begin no other cell after one has failed.
    """

    launcher: Launcher
    folder: Path
    metric: str
    fail_fast: bool
    launched: int = 0

    def run(self, wanted: Sequence[Wanted], everything: Sequence[Cell]) -> list[Failure]:
        """Train the cells of `wanted`; `everything` is what the board shows. Returns those that failed."""
        if not wanted:
            return []
        # By name: Hydra's registry executes the module of its basic launcher anew, which makes another class of it.
        if type(self.launcher).__name__ == BASIC:
            return self._one_by_one(wanted, everything)
        with self._watched(everything):
            jobs = self._launch(wanted)
        return _failures(wanted, jobs)

    def _one_by_one(self, wanted: Sequence[Wanted], everything: Sequence[Cell]) -> list[Failure]:
        failures: list[Failure] = []
        left = list(wanted)
        while left:
            # Those that another process is training come last: it may have ended them by then.
            one = next((one for one in left if not is_locked(one.run.folder)), left[0])
            left.remove(one)
            failures += _failures([one], self._launch([one]))
            self._show(everything)
            if failures and self.fail_fast:
                break
        return failures

    def _launch(self, wanted: Sequence[Wanted]) -> Sequence[JobReturn]:
        first, self.launched = self.launched, self.launched + len(wanted)
        return launch(self.launcher, wanted, first)

    def _show(self, everything: Sequence[Cell]) -> None:
        board = Board.read(self.folder, everything, self.metric)
        show([f"{self.folder.name}: {board.headline()}", *(f"  {row}" for row in board.rows())])

    @contextmanager
    def _watched(self, everything: Sequence[Cell]) -> Iterator[None]:
        """Tell each change of the board from a thread: the launcher returns when all of it is over."""
        over = threading.Event()

        def watch() -> None:
            told = ""
            while True:
                ended = over.wait(POLL_SECONDS)
                headline = Board.read(self.folder, everything, self.metric).headline(one_by_one=False)
                if headline != told:
                    show([f"{self.folder.name}: {headline}"])
                    told = headline
                if ended:
                    return

        thread = threading.Thread(target=watch, name="board", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._show(everything)


def launch(launcher: Launcher, wanted: Sequence[Wanted], first: int = 0) -> Sequence[JobReturn]:
    """Run the command's task on every cell; `first` is the number of the first of them."""
    return launcher.launch([[*one.overrides, job_name(one.run)] for one in wanted], initial_job_idx=first)


def _failures(wanted: Sequence[Wanted], jobs: Sequence[JobReturn]) -> list[Failure]:
    return [
        Failure(one.cell, job._return_value)
        for one, job in zip(wanted, jobs, strict=True)
        if job.status is JobStatus.FAILED
    ]


def show(lines: Sequence[str]) -> None:
    """Print lines about the sweep, apart from those of its runs."""
    print("\n".join(["", *lines]), file=sys.stderr, flush=True)
