"""When a fault is inflicted: moments are drawn beforehand, and come when the run, seen from outside, is there."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from faults.evidence import Trace, is_marked, run_folder, temporaries, trace_of, trained_steps
from faults.matrix import EVALUATIONS, SAMPLES, STEPS

_LONGEST_DELAY_SECONDS = 0.02  # about a step

Kind = Literal["anywhere", "step", "save", "evaluation"]


class Process(Protocol):
    """A running command."""

    pid: int

    def poll(self) -> int | None:
        """The exit status; None while it runs."""


@dataclass(frozen=True)
class Moment:
    """A moment in the life of a process.

    Attributes:
        kind: "anywhere": after `share` of an undisturbed life, imports included, or at `step` if that comes first; the
            others once `step` is in the record and the process has written to it: "step" up to a fiftieth of a second
            later, "save" when next a checkpoint is being written, "evaluation" just after, `step` being one that is
            evaluated.
        share: from 0 to 1, of the life or of the delay.
        step: the training step it is about.
    """

    kind: Kind
    share: float
    step: int


def drawn(chance: random.Random, kind: Kind, first: int, last: int) -> Moment:
    """A random moment between two steps."""
    steps = range(first, max(first + 1, last))
    if kind == "evaluation":
        marks = range(1, STEPS)
        steps = [step for step in marks if is_marked(step, EVALUATIONS) or is_marked(step, SAMPLES)]
        steps = [step for step in steps if step >= first] or steps[-1:]
    return Moment(kind, chance.random(), chance.choice(steps))


def wait_for(moment: Moment, process: Process, folder: Path, life_seconds: float, before: Trace) -> bool:
    """Return True when the moment has come, False if the process ended before it came.

    Args:
        moment: to wait for.
        process: just started.
        folder: where it runs.
        life_seconds: how long an undisturbed process takes.
        before: what the run folder held when it was started.
    """
    begun = time.monotonic()
    if moment.kind == "anywhere":
        due = begun + moment.share * life_seconds
        return _until(lambda: time.monotonic() >= due or _has_come_to(moment.step, folder, before), process, 0.01)
    if not _until(lambda: _has_come_to(moment.step, folder, before), process, 0.004):
        return False
    if moment.kind == "save":
        return _until(lambda: bool(temporaries(run_folder(folder)) - before.temporaries), process, 0.001)
    time.sleep(moment.share * _LONGEST_DELAY_SECONDS)
    return process.poll() is None


def _has_come_to(step: int, folder: Path, before: Trace) -> bool:
    run = run_folder(folder)
    return trace_of(run).written != before.written and trained_steps(run) >= step


def _until(holds: Callable[[], bool], process: Process, pause: float) -> bool:
    """Wait until it holds; False if the process ends before."""
    begun = time.monotonic()
    while not holds():
        if process.poll() is not None or time.monotonic() - begun > 300:
            return False
        time.sleep(pause)
    return process.poll() is None
