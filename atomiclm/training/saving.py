"""Checkpoints while a run trains: when one is taken, what it carries, and what is said when it cannot be written."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from atomiclm.training import checkpoint
from atomiclm.training.checkpoint import NotFinite, Retention, Snapshot
from atomiclm.training.hooks import Log
from atomiclm.training.state import TrainState
from atomiclm.training.step import Diverged, StepResult


class RecordPosition(Protocol):
    """How far the record of a run has come. A checkpoint says which rows belong to it."""

    @property
    def rows(self) -> int:
        """Rows so far, without those of checkpoints, which come by the clock."""

    def sync(self) -> None:
        """Force them to disk."""


@dataclass(frozen=True)
class Written:
    """What became of one snapshot: its checkpoint, after so many seconds in the background, or why there is none."""

    snapshot: Snapshot
    path: Path | None
    seconds: float
    error: Exception | None = None


class SaveCheckpoints:
    """A hook, to be called last: takes a checkpoint when it is time, and has it written while training goes on.

    It is time every so many seconds; when a validation was the best so far, if the best is kept; at every rewind point;
    and at the end, for which it waits. One that cannot be written (a full disk) is reported, and training goes on:
    the checkpoints before it are untouched, and there may be room again before the next. A rewind point must be.
    One at a time is written by a thread of its own, which the end of the process waits for; hashing and writing leave
    the interpreter to others.

    Args:
        log: called with a row for each checkpoint, once it is on disk.
        say: called with a line for each that could not be written.
        folder: of the run's checkpoints.
        retention: which of them stay.
        every_seconds: None = only for the other reasons.
        rewind_every_steps: steps between two rewind points; None = none.
        record: the record of the run, forced to disk before a checkpoint that counts its rows is published.
        conditions: what exact resuming depends on, for the manifest.
    """

    def __init__(
        self,
        log: Log,
        say: Callable[[str], None],
        folder: Path,
        retention: Retention,
        every_seconds: float | None,
        rewind_every_steps: int | None,
        record: RecordPosition,
        conditions: Mapping[str, Any],
    ) -> None:
        self.log = log
        self.say = say
        self.folder = folder
        self.retention = retention
        self.every_seconds = every_seconds
        self.rewind_every_steps = rewind_every_steps
        self.record = record
        self.conditions = conditions
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[Written] | None = None
        self._taken_at = time.monotonic()
        self._not_removed: OSError | None = None

    def begin(self, state: TrainState) -> None:
        """Before the first step: where the run may rewind, there must be a point to rewind to from the start."""
        if self.rewind_every_steps and not checkpoint.checkpoints_in(self.folder):
            self.save(state, rewind_point=True)

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        """Take a checkpoint if it is time."""
        self._collect()
        rewind_point = bool(self.rewind_every_steps) and state.step % (self.rewind_every_steps or 1) == 0
        is_best = self.retention.best and state.best is not None and state.best[0] == state.step
        is_due = self.every_seconds is not None and time.monotonic() - self._taken_at >= self.every_seconds
        if progress >= 1:
            self.save(state, rewind_point)
        elif rewind_point or is_best:
            self._collect(wait=True)
            self._submit(state, rewind_point)
        elif is_due and self._pending is None:
            self._submit(state, rewind_point)

    def save(self, state: TrainState, rewind_point: bool = False) -> None:
        """Take a checkpoint now, and wait until it is on disk.

        Raises:
            OSError: it cannot be written.
            Diverged: its weights are not finite.
        """
        self._collect(wait=True)
        self._submit(state, rewind_point)
        written = self._collect(wait=True)
        assert written is not None
        if isinstance(written.error, NotFinite):
            raise Diverged(f"diverged at step {state.step}: {written.error}") from written.error
        if written.error is not None:
            raise written.error

    def wait(self) -> None:
        """Wait until the checkpoint that is being written, if any, is on disk."""
        self._collect(wait=True)

    def _submit(self, state: TrainState, rewind_point: bool) -> None:
        about: dict[str, Any] = {"conditions": dict(self.conditions), "rewind_point": rewind_point}
        if state.validated is not None and state.validated[0] == state.step:
            about["bits_per_byte"] = state.validated[1]
        assert self._pending is None, "collect what was written before the next is submitted"
        self._pending = self._pool.submit(self._write, Snapshot.take(state, about, record_rows=self.record.rows))
        self._taken_at = time.monotonic()

    def _write(self, snapshot: Snapshot) -> Written:
        begun = time.perf_counter()
        try:
            path = checkpoint.write(snapshot, self.folder, before_publishing=self.record.sync)
        except Exception as error:  # for `_collect` to raise, in the thread that trains
            return Written(snapshot, None, time.perf_counter() - begun, error)
        try:
            checkpoint.prune(self.folder, self.retention)
        except OSError as error:  # the new one is on disk all the same
            self._not_removed = error
        return Written(snapshot, path, time.perf_counter() - begun)

    def _collect(self, wait: bool = False) -> Written | None:
        """Note what became of the last checkpoint, if that is known by now."""
        if self._pending is None or not (wait or self._pending.done()):
            return None
        written, self._pending = self._pending.result(), None
        if self._not_removed is not None:
            self.say(f"older checkpoints were not removed: {self._not_removed}")
            self._not_removed = None
        scalars = written.snapshot.scalars
        if written.path is not None:
            position = {key: scalars[key] for key in ("step", "tokens", "seconds", "flops")}
            took = round(written.seconds, 3)
            self.log({"event": "checkpoint", **position, "path": written.path.name, "save_seconds": took})
        elif isinstance(written.error, OSError) and written.snapshot.about["rewind_point"]:
            raise written.error  # without it a later rewind would lead elsewhere, and the run be another one
        elif isinstance(written.error, OSError | NotFinite):
            self.say(f"the checkpoint of step {scalars['step']} was not written: {written.error}; the one before stays")
        elif written.error is not None:
            raise written.error
        return written
