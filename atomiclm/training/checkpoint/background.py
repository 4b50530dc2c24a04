"""Writing a checkpoint while training goes on: training waits for the copy, a thread does the rest."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from atomiclm.training.checkpoint.snapshot import Snapshot


@dataclass(frozen=True)
class Written:
    """What became of one snapshot.

    Attributes:
        snapshot: that was to be written.
        path: the checkpoint; None if it failed.
        seconds: that writing took, in the background.
        error: why it failed.
    """

    snapshot: Snapshot
    path: Path | None
    seconds: float
    error: Exception | None = None


class BackgroundWriter:
    """One snapshot at a time is written by a thread of its own, which the end of the process waits for.

    Hashing and writing leave the interpreter to others; the thread competes for the processor alone.
    """

    def __init__(self, write: Callable[[Snapshot], Path]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[Written] | None = None

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being written."""
        return self._pending is not None and not self._pending.done()

    def submit(self, snapshot: Snapshot) -> None:
        """Begin to write; the one before must have been collected."""
        assert self._pending is None, "collect what was written before the next is submitted"
        self._pending = self._pool.submit(self._attempt, snapshot)

    def collect(self, wait: bool = False) -> Written | None:
        """Return what became of the last snapshot, once: None if there is nothing new to say.

        Args:
            wait: until it is written.
        """
        if self._pending is None or not (wait or self._pending.done()):
            return None
        written, self._pending = self._pending.result(), None
        return written

    def _attempt(self, snapshot: Snapshot) -> Written:
        begun = time.perf_counter()
        try:
            path, error = self._write(snapshot), None
        except Exception as failure:  # told by whoever collects, in the thread that trains
            path, error = None, failure
        return Written(snapshot, path, time.perf_counter() - begun, error)
