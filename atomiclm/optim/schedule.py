"""Learning-rate schedules: a multiplier as a pure function of the step, with no state to save or to get wrong."""

import math
from abc import ABC, abstractmethod


class Schedule(ABC):
    """A linear warmup, then a decay over what is left of the horizon.

    With warmup W and horizon H in steps, the multiplier of step s (counted from 0) is

        (s + 1) / (W + 1)                  for s < W
        decay((s - W) / (H - W))           after that, the argument clipped to [0, 1]

    so the first step already moves, and the peak is reached at step W.
    """

    def __init__(self, warmup_steps: int = 0) -> None:
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps={warmup_steps} is negative; give 0 for no warmup")
        self.warmup_steps = warmup_steps

    def multiplier(self, step: int, horizon_steps: float) -> float:
        """Return the factor on the learning rate at `step`.

        Args:
            step: optimizer steps taken so far.
            horizon_steps: steps the whole run takes; a fraction where the budget is in seconds and it is an estimate.
        """
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        left = horizon_steps - self.warmup_steps
        return self.decay(min(1.0, (step - self.warmup_steps) / left) if left > 0 else 1.0)

    @abstractmethod
    def decay(self, progress: float) -> float:
        """Return the multiplier at `progress` in [0, 1] between the end of the warmup and the horizon."""


class Constant(Schedule):
    """No decay: decay(p) = 1."""

    def decay(self, progress: float) -> float:
        """Return 1."""
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 down to `final_fraction` f: decay(p) = f + (1 - f) (1 + cos(pi p)) / 2.

    Source: Loshchilov and Hutter (2016), arXiv:1608.03983, equation 5, without restarts; the floor of a tenth is the
    custom since Brown et al. (2020), arXiv:2005.14165, appendix B.
    """

    def __init__(self, warmup_steps: int = 0, final_fraction: float = 0.1) -> None:
        super().__init__(warmup_steps)
        if not 0.0 <= final_fraction <= 1.0:
            raise ValueError(f"final_fraction={final_fraction} is not in [0, 1]; 0.1 ends at a tenth of the peak")
        self.final_fraction = final_fraction

    def decay(self, progress: float) -> float:
        """Return the multiplier at `progress` in [0, 1]."""
        return self.final_fraction + (1.0 - self.final_fraction) * 0.5 * (1.0 + math.cos(math.pi * progress))
