"""Checkpoints while a run trains: when one is taken, what it contains, and what happens when it cannot be written."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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


class SaveCheckpoints:
    """A hook, to be called last: takes a checkpoint when it is time, and has it written while training goes on.

    It is time every so many seconds; when a validation was the best so far, if the best stays; at every rewind point;
    and at the end, for which it waits. One that cannot be written (a full disk) is reported, and training goes on: the
    checkpoints before it are untouched, and there may be room again before the next. A rewind point has to be written:
    without it a later rewind would lead elsewhere, and the run be another one. One thread writes one at a time; hashing
    and writing release the interpreter.

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
        self._pending: tuple[Snapshot, Future[dict[str, Any]]] | None = None
        self._taken_at = time.monotonic()

    def begin(self, state: TrainState) -> None:
        """Before the first step: where the run may rewind, there must be a point to rewind to from the start."""
        if self.rewind_every_steps and not checkpoint.checkpoints_in(self.folder):
            self.save(state, rewind_point=True)

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        """Take a checkpoint if it is time."""
        rewind_point = self.rewind_every_steps is not None and state.step % self.rewind_every_steps == 0
        is_best = self.retention.best and state.best is not None and state.best[0] == state.step
        is_due = self.every_seconds is not None and time.monotonic() - self._taken_at >= self.every_seconds
        if progress >= 1:
            self.save(state, rewind_point)
            return
        if rewind_point or is_best or (self._pending is not None and self._pending[1].done()):
            self.wait()
        if rewind_point or is_best or (is_due and self._pending is None):
            self._submit(state, rewind_point)

    def save(self, state: TrainState, rewind_point: bool = False) -> None:
        """Take a checkpoint now, and wait until it is on disk.

        Raises:
            OSError: it cannot be written.
            Diverged: its weights are not finite.
        """
        self.wait()
        self._submit(state, rewind_point)
        error = self.wait()
        if isinstance(error, NotFinite):
            raise Diverged(f"diverged at step {state.step}: {error}") from error
        if error is not None:
            raise error

    def wait(self) -> OSError | NotFinite | None:
        """Wait until the checkpoint that is being written, if any, is on disk; return why it is not, if it may be."""
        if self._pending is None:
            return None
        (snapshot, future), self._pending = self._pending, None
        try:
            row = future.result()
        except (OSError, NotFinite) as error:
            if isinstance(error, OSError) and snapshot.about["rewind_point"]:
                raise
            self.say(f"the checkpoint of step {snapshot.step} was not written: {error}; the one before stays")
            return error
        if stuck := row.pop("not_removed", None):
            self.say(f"older checkpoints were not removed: {stuck}")
        self.log(row)
        return None

    def _submit(self, state: TrainState, rewind_point: bool) -> None:
        about: dict[str, Any] = {"conditions": dict(self.conditions), "rewind_point": rewind_point}
        if state.validated is not None and state.validated[0] == state.step:
            about["bits_per_byte"] = state.validated[1]
        snapshot = Snapshot.take(state, about, record_rows=self.record.rows)
        self._pending = snapshot, self._pool.submit(self._write, snapshot)
        self._taken_at = time.monotonic()

    def _write(self, snapshot: Snapshot) -> dict[str, Any]:
        """Write a snapshot, and return its row of the record; runs in the thread."""
        begun = time.perf_counter()
        path = checkpoint.write(snapshot, self.folder, before_publishing=self.record.sync)
        position = {key: snapshot.scalars[key] for key in ("step", "tokens", "seconds", "flops")}
        row = {"event": "checkpoint", **position, "path": path.name}
        try:
            checkpoint.prune(self.folder, self.retention)
        except OSError as error:  # the new one is on disk all the same
            row["not_removed"] = error
        return {**row, "save_seconds": round(time.perf_counter() - begun, 3)}
