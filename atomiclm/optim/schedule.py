"""Learning-rate schedules: a multiplier as a pure function of the step, with no state to save or to get wrong."""

from abc import ABC, abstractmethod
from collections.abc import Iterator


class Schedule(ABC):
    """A linear warmup, then what the kind of schedule does.

    With warmup W in steps, the multiplier of step s (counted from 0) is

        (s + 1) / (W + 1)                  for s < W
        after_warmup(s, horizon)           after that

    so the first step already moves, and the peak is reached at step W.
    """

    horizon_steps: int | None = None
    """The step at which a decay ends, where that is not the end of the budget."""

    def __init__(self, warmup_steps: int = 0) -> None:
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps={warmup_steps} is negative; give 0 for no warmup")
        self.warmup_steps = warmup_steps

    def multiplier(self, step: int, horizon_steps: float) -> float:
        """Return the factor on the learning rate at `step`.

        Args:
            step: optimizer steps taken so far.
            horizon_steps: steps the whole run takes; a fraction where the budget is in seconds and it is an estimate,
                infinite where nothing is known yet.
        """
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self.after_warmup(step, horizon_steps)

    def cautions(self, steps: int, lr: float | None) -> Iterator[tuple[str, str]]:
        """Yield (argument, message) for what is probably not meant in a run of `steps` steps at the peak rate `lr`."""
        if steps <= self.warmup_steps:
            highest = self.multiplier(steps - 1, steps)
            rate = "" if lr is None else f" ({lr * highest:.3g} of {lr:g})"
            yield (
                "warmup_steps",
                f"the run has {steps:,} steps and the warmup {self.warmup_steps:,}, so the learning rate reaches "
                f"{highest:.0%} of its peak{rate}; give a larger budget, or schedule.warmup_steps={steps // 10}",
            )
        elif self.horizon_steps is not None and self.multiplier(steps - 1, steps) == 0:
            yield (
                "horizon_steps",
                f"the learning rate is 0 from step {self.horizon_steps:,} on, and the run has {steps:,} steps; give "
                "null for a decay to the end of the budget, or a final_fraction",
            )

    @abstractmethod
    def after_warmup(self, step: int, horizon_steps: float) -> float:
        """Return the multiplier at a step that is not before the end of the warmup."""


class Decay(Schedule):
    """A decay that runs from the end of the warmup W to a horizon H: decay((s - W) / (H - W)), clipped to [0, 1].

    horizon_steps: H in steps, null = the end of the run's budget. A horizon of its own keeps the early part of runs of
    different budgets equal, and leaves a run that goes on past it at the final rate.
    """

    def __init__(self, warmup_steps: int = 0, horizon_steps: int | None = None) -> None:
        super().__init__(warmup_steps)
        check_horizon(horizon_steps, warmup_steps)
        self.horizon_steps = horizon_steps

    def after_warmup(self, step: int, horizon_steps: float) -> float:
        """Return the decay at the step's share of the way."""
        left = (self.horizon_steps or horizon_steps) - self.warmup_steps
        return self.decay(min(1.0, (step - self.warmup_steps) / left) if left > 0 else 1.0)

    @abstractmethod
    def decay(self, progress: float) -> float:
        """Return the multiplier at `progress` in [0, 1] between the end of the warmup and the horizon."""


def check_horizon(horizon_steps: int | None, warmup_steps: int) -> None:
    """Raise ValueError unless a horizon of its own lies beyond the warmup."""
    if horizon_steps is not None and horizon_steps <= warmup_steps:
        raise ValueError(
            f"horizon_steps={horizon_steps} is not beyond warmup_steps={warmup_steps}; "
            "give more steps, or null for the end of the budget"
        )


def check_final_fraction(final_fraction: float) -> None:
    """Raise ValueError unless the rate at the end is a share of the peak."""
    if not 0.0 <= final_fraction <= 1.0:
        raise ValueError(f"final_fraction={final_fraction} is not in [0, 1]; 0.1 ends at a tenth of the peak")
