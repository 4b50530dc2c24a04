"""Checkpoints while a run trains: when one is taken, what it carries, and what is said when it cannot be written."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from atomiclm.training import checkpoint
from atomiclm.training.checkpoint import BackgroundWriter, NotFinite, Retention, Snapshot, Written
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

    It is time every so many seconds; when a validation was the best so far, if the best is kept; at every rewind point;
    and at the end, for which it waits. One that cannot be written (a full disk) is said aloud, and training goes on:
    the checkpoints before it are untouched, and there may be room again before the next. A rewind point must be.

    Args:
        log: takes a row for each checkpoint, once it is durable.
        say: takes a line for each that could not be written.
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
        self._writer = BackgroundWriter(self._write)
        self._taken_at = time.monotonic()
        self._not_removed: OSError | None = None

    def begin(self, state: TrainState) -> None:
        """Before the first step: where the run may rewind, there must be a point to rewind to from the start."""
        if self.rewind_every_steps and not checkpoint.candidates(self.folder):
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
        elif is_due and not self._writer.busy:
            self._submit(state, rewind_point)

    def save(self, state: TrainState, rewind_point: bool = False) -> None:
        """Take a checkpoint now, and wait until it is durable.

        Raises:
            OSError: it cannot be written.
            Diverged: its weights are no numbers.
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
        """Wait until the checkpoint that is being written, if any, is durable."""
        self._collect(wait=True)

    def _submit(self, state: TrainState, rewind_point: bool) -> None:
        about: dict[str, Any] = {"conditions": dict(self.conditions), "rewind_point": rewind_point}
        if state.validated is not None and state.validated[0] == state.step:
            about["bits_per_byte"] = state.validated[1]
        self._writer.submit(Snapshot.take(state, about, record_rows=self.record.rows))
        self._taken_at = time.monotonic()

    def _write(self, snapshot: Snapshot) -> Path:
        path = checkpoint.write(snapshot, self.folder, before_publishing=self.record.sync)
        try:
            checkpoint.prune(self.folder, self.retention)
        except OSError as error:  # the new one is durable all the same
            self._not_removed = error
        return path

    def _collect(self, wait: bool = False) -> Written | None:
        """Note what became of the last checkpoint, if that is known by now."""
        written = self._writer.collect(wait)
        if written is None:
            return None
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
