"""What happens around the training steps: metrics, validation, samples. The loop knows nothing of them.

Hooks are called in the order given, after each step. Checkpoints (`saving.py`) must come last: when one is taken after
step s, every row of step s is already in the record, so a resumed run drops exactly the rows it will write again.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from atomiclm.training.state import Interval, TrainState
from atomiclm.training.step import StepResult

Row = dict[str, Any]
Log = Callable[[Row], None]


class Hook(Protocol):
    """Called after every step with the state, what the step gave, and the fraction of the budget used up to it."""

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        """React to one finished step; `progress` reaches 1 with the last one."""


class LogMetrics:
    """Every `every_steps` steps, and at the end, one row with the means of the steps since the last; and every spike.

    The loss is cross-entropy alone; what was added to it is beside it under its own name, as `train/z_loss`. Bits per
    byte use the corpus's mean bytes per training token, where validation has its exact bytes.
    `train/flops_utilization` is what `utilization` makes of FLOP/s: their share of the best seen here (`machine.Peak`).
    """

    def __init__(
        self,
        log: Log,
        every_steps: int,
        bytes_per_token: float,
        flops_per_token: float,
        utilization: Callable[[float], float],
    ) -> None:
        self.log = log
        self.every_steps = every_steps
        self.bytes_per_token = bytes_per_token
        self.flops_per_token = flops_per_token
        self.utilization = utilization

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        """Add the step to the interval; write a row when it is time."""
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
        rate = interval.tokens / interval.seconds
        loss = interval.nats / interval.targets
        row = {
            "train/loss": loss,
            "train/bits_per_byte": loss / (math.log(2) * self.bytes_per_token),
            **{f"train/{name}": total / interval.targets for name, total in interval.terms.items()},
            "train/gradient_norm": result.gradient_norm,
            "train/learning_rate": max(group["lr"] for group in state.optimizer.param_groups),
            "train/tokens_per_second": round(rate, 1),
            "train/flops_utilization": round(self.utilization(rate * self.flops_per_token), 4),
        }
        state.interval = Interval()
        state.latest.update(row)
        self.log({"event": "train", **state.position(), "progress": round(min(1.0, progress), 6), **row})


class Validate:
    """`times` full validation passes, evenly spaced over the budget, the last one with the last step.

    The model then has the weights that the run is judged by (`TrainState.evaluated`).
    """

    def __init__(self, log: Log, evaluate: Callable[[], Mapping[str, float]], times: int) -> None:
        self.log = log
        self.evaluate = evaluate
        self.times = times

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        """Evaluate when a boundary was crossed by this step."""
        if crossed(self.times, result, progress):
            with state.evaluated():
                metrics = dict(self.evaluate())
            state.latest.update(metrics)
            state.score(metrics)
            self.log({"event": "validation", **state.position(), **metrics})


class Sample:
    """Text from the model as the run is judged by it now, `times` times over the budget."""

    def __init__(self, log: Log, sample: Callable[[], list[dict[str, str]]], times: int) -> None:
        self.log = log
        self.sample = sample
        self.times = times

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        """Sample when a boundary was crossed by this step."""
        if crossed(self.times, result, progress):
            with state.evaluated():
                samples = self.sample()
            self.log({"event": "sample", **state.position(), "samples": samples})


def crossed(times: int, result: StepResult, progress: float) -> bool:
    """Whether the step passed one of `times` evenly spaced marks in (0, 1]. Asked of the step alone, so that a resumed
    or rewound run answers as the first one did."""
    return _marks(times, progress) > _marks(times, result.progress_before)


def _marks(times: int, progress: float) -> int:
    # Rounded, so that step 40 of 200 is mark 1 of 5 whatever 40 / 200 * 5 comes to in floating point.
    return int(round(min(1.0, progress) * times, 9))
