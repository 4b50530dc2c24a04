"""A bad step: its loss or gradient is not finite, or its loss is a spike. The policies, and what is recorded of it.

A policy depends on the run alone, never on when the machine happened to save, so a run that was killed in between does
the same.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import safetensors.torch
import torch

from atomiclm.data import Batch
from atomiclm.training import checkpoint
from atomiclm.training.hooks import Log, SaveCheckpoints
from atomiclm.training.state import TrainState

Action = Literal["stop", "skip", "rewind"]


class BadStep(Exception):
    """A step that was computed and not taken; the weights are as they were before it.

    Attributes:
        batch, index: what it was computed on, and the batch's index.
        row: what the record says of it: reason, loss in nats per counted target, gradient norm before clipping.
        gradients: names of the parameters whose gradient is not finite, where the loss is.
    """

    def __init__(
        self, reason: str, batch: Batch, index: int, loss: float, gradient_norm: float, gradients: Sequence[str]
    ) -> None:
        super().__init__(f"{reason}: loss {loss:.4g}, gradient norm {gradient_norm:.4g}")
        self.batch = batch
        self.index = index
        self.row = {"batch": index, "reason": reason, "loss": loss, "gradient_norm": gradient_norm}
        self.gradients = [*gradients]


class BadStepPolicy(Protocol):
    """What to do, given how many bad steps there were, this one included."""

    rewind_every_steps: int | None  # steps between two rewind points; None where it never rewinds

    def action(self, bad_steps: int) -> Action: ...


class StopAtBadStep:
    """The run has diverged, and that is its result: the custom of comparisons, where no run is repaired."""

    rewind_every_steps: int | None = None

    def action(self, bad_steps: int) -> Action:
        return "stop"


@dataclass
class SkipBadSteps:
    """The batch is stepped over and the next one taken, at the same step and learning rate.

    Args:
        limit: how many may be; the run has diverged with the next one.

    Raises:
        ValueError: limit is not positive.
    """

    limit: int = 10
    rewind_every_steps: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit={self.limit} must be positive; give at least 1 bad step")

    def action(self, bad_steps: int) -> Action:
        return "skip" if bad_steps <= self.limit else "stop"


class RewindBadSteps:
    """The run goes back to the last rewind point and takes the same way again, past the batch of the bad step.

    The remedy of PaLM for spikes (Chowdhery et al. 2022, arXiv:2204.02311, section 5.1), who went back about 100 steps
    and skipped 200 to 500 batches by hand; here one batch is skipped at a time.

    Args:
        every_steps: steps between two rewind points, checkpoints of their own: those that come by the clock would make
            the result a matter of the machine's speed.
        limit: how often the run may go back; it has diverged with the next bad step.

    Raises:
        ValueError: an argument is not positive.
    """

    def __init__(self, every_steps: int = 100, limit: int = 10) -> None:
        if every_steps < 1:
            raise ValueError(f"every_steps={every_steps} must be positive; give at least 1 step")
        if limit < 1:
            raise ValueError(f"limit={limit} must be positive; give at least 1 bad step")
        self.every_steps = every_steps
        self.limit = limit
        self.rewind_every_steps: int | None = every_steps

    def action(self, bad_steps: int) -> Action:
        return "rewind" if bad_steps <= self.limit else "stop"


class SpikeDetector:
    """A loss far above those of the last steps:  loss > mean + deviations * standard deviation.

    The criterion of OLMo 2 (2024, arXiv:2501.00656, section 3.1), which counts values at least 7 standard deviations
    from the mean of the last 1,000; here only those above it, over a window that suits short runs.

    Args:
        deviations: how many standard deviations.
        window: over how many of the last steps; nothing is judged before there are that many.
        is_bad: whether such a step is treated as a bad one, by `trainer.bad_steps`; otherwise it is noted and taken.

    Raises:
        ValueError: deviations is not positive, or the window is less than 2.
    """

    def __init__(self, deviations: float = 6.0, window: int = 128, is_bad: bool = False) -> None:
        if not deviations > 0:
            raise ValueError(f"deviations={deviations} must be positive; 6 is far beyond the noise of a batch")
        if window < 2:
            raise ValueError(f"window={window} must be at least 2: one step has no standard deviation")
        self.deviations = deviations
        self.window = window
        self.is_bad = is_bad

    def cautions(self, steps: int) -> Iterator[tuple[str, str]]:
        """Yield (argument, message) for what is doubtful in a run of `steps` steps."""
        if self.is_bad and self.window >= steps:
            yield (
                "window",
                f"the first {self.window:,} steps are not judged and the run has {steps:,}, so no spike is found; "
                "give fewer",
            )

    def limit(self, recent: Sequence[float]) -> float:
        """Return the loss above which one is a spike, given the last ones; infinite while they are too few."""
        if len(recent) < self.window:
            return math.inf
        mean = sum(recent) / len(recent)
        variance = sum((loss - mean) ** 2 for loss in recent) / (len(recent) - 1)
        return mean + self.deviations * math.sqrt(variance)

    def remember(self, recent: list[float], loss: float) -> None:
        recent.append(loss)
        del recent[: -self.window]


@dataclass
class Recovery:
    """Records each bad step of a run with its batch, and rewinds the run.

    bad_steps/batch_00000123/
        batch.safetensors       inputs, targets and, where there are any, mask and documents: (batch, time)
        facts.json              step, reason, loss, gradient norm, which gradients are not finite, action, the text
    """

    folder: Path
    saver: SaveCheckpoints
    log: Log
    say: Callable[[str], None]
    decode: Callable[[list[int]], str]

    def record(self, state: TrainState, bad: BadStep, action: Action) -> None:
        """Report the bad step, write its row, and save its batch; rank 0 does."""
        if not state.processes.is_first:
            return
        folder = self.folder / f"batch_{bad.index:08d}"
        done = {"stop": "the run stops", "skip": "the batch is skipped", "rewind": "the run rewinds"}[action]
        self.say(f"bad step {state.step} (batch {bad.index}): {bad}; {done}; batch saved in {folder}")
        self.log({"event": "bad_step", **state.position(), **bad.row, "action": action})
        facts: dict[str, Any] = {"step": state.step, **bad.row, "action": action}
        facts |= {"gradients": bad.gradients, "text": [self.decode(row) for row in bad.batch.inputs.tolist()]}
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(facts[name]):
                facts[name] = str(facts[name])
        arrays = {name: getattr(bad.batch, name) for name in ("inputs", "targets", "mask", "documents")}
        tensors = {name: torch.from_numpy(array).contiguous() for name, array in arrays.items() if array is not None}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "batch.safetensors").write_bytes(safetensors.torch.save(tensors))
            (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            self.say(f"the batch of the bad step was not saved: {error}")

    def rewind(self, state: TrainState) -> None:
        self.saver.wait()
        step = state.step
        checkpoint.rewind(state, self.saver.folder, self.say)
        self.say(f"rewound from step {step} to step {state.step}")
