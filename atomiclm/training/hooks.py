"""What happens around the training steps: metrics, validation, samples, checkpoints. The loop knows nothing of them.

Hooks are called in the order given, after each step. `SaveCheckpoints` must come last: when a checkpoint is taken after
step s, every row of step s is already in the record, so a resumed run drops exactly the rows it will write again.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from atomiclm.tracking import Record
from atomiclm.tracking.run_folder import checkpoints_in
from atomiclm.training import checkpoint
from atomiclm.training.checkpoint import Snapshot
from atomiclm.training.state import Interval, TrainState
from atomiclm.training.step import Diverged, StepResult

Log = Callable[[dict[str, Any]], None]


class Hook(Protocol):
    """Called after every step with the state, what the step gave, and the fraction of the budget used: 1 at the end."""

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None: ...


@dataclass
class LogMetrics:
    """Every `every_steps` steps, and at the end, one row with the means of the steps since the last; and every spike.

    The loss is cross-entropy alone; what was added to it is beside it under its own name, as `train/z_loss`. Bits per
    byte use the corpus's mean bytes per training token, where validation has its exact bytes.
    `train/flops_utilization` is what `utilization` makes of FLOP/s: their share of the best seen here (`runtime.Peak`).
    """

    log: Log
    every_steps: int
    bytes_per_token: float
    flops_per_token: float
    utilization: Callable[[float], float]

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        interval = state.interval
        interval.nats += result.loss * result.targets
        for name, value in result.terms.items():
            interval.terms[name] = interval.terms.get(name, 0.0) + value * result.targets
        if result.spike_limit is not None:
            self.log({"event": "spike", **state.position(), "loss": result.loss, "limit": result.spike_limit})
        interval.tokens += result.tokens
        interval.targets += result.targets
        interval.seconds += result.seconds
        if state.step % self.every_steps and progress < 1:
            return
        rate, loss = interval.tokens / interval.seconds, interval.nats / interval.targets
        row = {
            "train/loss": loss,
            "train/bits_per_byte": loss / (math.log(2) * self.bytes_per_token),
            **{f"train/{name}": total / interval.targets for name, total in interval.terms.items()},
            "train/gradient_norm": result.gradient_norm,
            "train/learning_rate": state.processes.greatest(max(group["lr"] for group in state.optimizer.param_groups)),
            "train/tokens_per_second": round(rate, 1),
            "train/flops_utilization": round(self.utilization(rate * self.flops_per_token), 4),
        }
        state.interval = Interval()
        state.latest.update(row)
        self.log({"event": "train", **state.position(), "progress": round(min(1.0, progress), 6), **row})


@dataclass
class Validate:
    """`times` full validation passes, evenly spaced over the budget, the last one with the last step.

    The model then has the weights that the run is judged by (`TrainState.evaluated`).
    """

    log: Log
    evaluate: Callable[[], Mapping[str, float]]
    times: int

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        if crossed(self.times, result, progress):
            with state.evaluated():
                metrics = dict(self.evaluate())
            state.latest.update(metrics)
            state.score(metrics)
            self.log({"event": "validation", **state.position(), **metrics})


@dataclass
class Sample:
    """Text from the model as the run is judged by it now, `times` times over the budget."""

    log: Log
    sample: Callable[[], list[dict[str, str]]]
    times: int

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        if crossed(self.times, result, progress):
            with state.evaluated():
                samples = self.sample()
            self.log({"event": "sample", **state.position(), "samples": samples})


def crossed(times: int, result: StepResult, progress: float) -> bool:
    """Whether the step passed one of `times` evenly spaced marks in (0, 1]. Asked of the step alone, so that a resumed
    or rewound run answers as the first one did."""
    # Rounded, so that step 40 of 200 is mark 1 of 5 whatever 40 / 200 * 5 comes to in floating point.
    before, after = (int(round(min(1.0, used) * times, 9)) for used in (result.progress_before, progress))
    return after > before


REWIND_POINTS = 2
"""How many rewind points stay: should the newest be damaged, the one before is there."""


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the `newest` few (at least 1), the points a run may rewind to, and if `best` the one with
    the lowest validation bits per byte, of those that were validated at their own step."""

    newest: int
    best: bool = False


def prune(folder: Path, retention: Retention) -> None:
    """Remove what need not stay, once the newest checkpoint is on disk. One with a damaged manifest is not removed."""
    found: dict[Path, dict[str, Any]] = {}
    for path in checkpoints_in(folder):  # newest first
        with contextlib.suppress(checkpoint.DamagedCheckpoint):
            found[path] = checkpoint.read_manifest(path)
    points = [path for path, manifest in found.items() if manifest.get("rewind_point")]
    stay = {*list(found)[: retention.newest], *points[:REWIND_POINTS]}
    if retention.best:
        written = {path: manifest.get("bits_per_byte") for path, manifest in found.items()}
        scores = {path: s for path, s in written.items() if isinstance(s, int | float) and math.isfinite(s)}
        stay.update(sorted(scores, key=scores.__getitem__)[:1])  # of equals the newest, which comes first
    for path in found:
        if path not in stay:
            checkpoint.remove(path)


@dataclass
class SaveCheckpoints:
    """A hook, to be called last: takes a checkpoint when it is time, and has it written while training goes on.

    It is time every so many seconds; when a validation was the best so far, if the best stays; at every rewind point;
    and at the end, for which it waits. One that cannot be written (a full disk) is reported, and training goes on: the
    checkpoints before it are untouched, and there may be room again before the next. A rewind point has to be written:
    without it a later rewind would lead elsewhere, and the run be another one. One thread writes one at a time.

    Attributes:
        every_seconds: None = only for the other reasons.
        rewind_every_steps: steps between two rewind points; None = none.
        record: the record of the run, forced to disk before a checkpoint that counts its rows is published; of several
            processes rank 0 has it, and writes.
        conditions: what exact resuming depends on, for the manifest.
    """

    log: Log
    say: Callable[[str], None]
    folder: Path
    retention: Retention
    every_seconds: float | None
    rewind_every_steps: int | None
    record: Record | None
    conditions: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: tuple[Snapshot, Future[dict[str, Any]]] | None = None
        self._taken_at = time.monotonic()

    def begin(self, state: TrainState) -> None:
        """Before the first step: where the run may rewind, there must be a point to rewind to from the start."""
        if self.rewind_every_steps and state.processes.from_first(not checkpoints_in(self.folder)):
            self.save(state, rewind_point=True)

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        rewind_point = self.rewind_every_steps is not None and state.step % self.rewind_every_steps == 0
        is_best = self.retention.best and state.best is not None and state.best[0] == state.step
        is_due = self.every_seconds is not None and time.monotonic() - self._taken_at >= self.every_seconds
        if progress >= 1:
            self.save(state, rewind_point)
            return
        must = rewind_point or is_best
        if must or (self._pending is not None and self._pending[1].done()):
            self.wait()
        if must or state.processes.from_first(is_due and self._pending is None):
            self._submit(state, rewind_point)

    def save(self, state: TrainState, rewind_point: bool = False) -> None:
        """Take a checkpoint now, and wait until it is on disk; raises as `checkpoint.write`."""
        self.wait()
        self._submit(state, rewind_point)
        if (error := self.wait()) is not None:
            raise error

    def wait(self) -> OSError | Diverged | None:
        """Wait until the checkpoint that is being written, if any, is on disk; return why it is not, if it may be."""
        if self._pending is None:
            return None
        (snapshot, future), self._pending = self._pending, None
        try:
            row = future.result()
        except (OSError, Diverged) as error:
            if isinstance(error, OSError) and snapshot.manifest["rewind_point"]:
                raise
            self.say(
                f"the checkpoint of step {snapshot.scalars['step']} was not written: {error}; the one before stays"
            )
            return error
        if stuck := row.pop("not_removed", None):
            self.say(f"older checkpoints were not removed: {stuck}")
        self.log(row)
        return None

    def _submit(self, state: TrainState, rewind_point: bool) -> None:
        about: dict[str, Any] = {"conditions": dict(self.conditions), "rewind_point": rewind_point}
        if state.validated is not None and state.validated[0] == state.step:
            about["bits_per_byte"] = state.validated[1]
        snapshot = Snapshot.take(state, about, record_rows=self.record.rows if self.record else None)
        if self.record is not None:
            self._pending = snapshot, self._pool.submit(self._write, snapshot, self.record)
        self._taken_at = time.monotonic()

    def _write(self, snapshot: Snapshot, record: Record) -> dict[str, Any]:
        """Write a snapshot, and return its row of the record; runs in the thread."""
        begun = time.perf_counter()
        path = checkpoint.write(snapshot, self.folder, before_publishing=record.sync)
        position = {key: snapshot.scalars[key] for key in ("step", "tokens", "seconds", "flops")}
        row = {"event": "checkpoint", **position, "path": path.name}
        try:
            prune(self.folder, self.retention)
        except OSError as error:  # the new one is on disk all the same
            row["not_removed"] = error
        return {**row, "save_seconds": round(time.perf_counter() - begun, 3)}
