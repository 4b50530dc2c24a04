"""Learning-rate schedules: a multiplier as a pure function of the step, with no state to save or to get wrong."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from atomiclm.optim.base import check, check_choice


@dataclass
class Schedule(ABC):
    """A linear warmup of W steps, then what the kind of schedule does. The multiplier of step s (counted from 0) is

        (s + 1) / (W + 1)                  for s < W
        after_warmup(s, horizon)           after that

    so the first step already moves, and the peak is reached at step W.
    """

    warmup_steps: int = 0

    def __post_init__(self) -> None:
        check("warmup_steps", self.warmup_steps, self.warmup_steps >= 0, "must be at least 0, for no warmup")

    def multiplier(self, step: int, horizon_steps: float) -> float:
        """The factor on the learning rate after `step` steps.

        `horizon_steps` are those of the whole run: a fraction where the budget is in seconds, infinite while nothing is
        known.
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

    @abstractmethod
    def after_warmup(self, step: int, horizon_steps: float) -> float:
        """The multiplier at a step that is not before the end of the warmup."""


@dataclass(kw_only=True)
class Decay(Schedule):
    """From the end of the warmup W to a horizon H: falling((s - W) / (H - W)), the share clipped to [0, 1].

    final_fraction f: the multiplier at the horizon, where it stays. horizon_steps: H in steps, null = the end of the
    run's budget. One of its own keeps the early part of runs of different budgets equal.
    """

    final_fraction: float = 0.0
    horizon_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        sound = 0.0 <= self.final_fraction <= 1.0
        check("final_fraction", self.final_fraction, sound, "must be in [0, 1]; 0.1 ends at a tenth of the peak")
        horizon, warmup = self.horizon_steps, self.warmup_steps
        rule = f"must be greater than warmup_steps={warmup}; give more steps, or null for the end of the budget"
        check("horizon_steps", horizon, horizon is None or horizon > warmup, rule)

    def cautions(self, steps: int, lr: float | None) -> Iterator[tuple[str, str]]:
        yield from super().cautions(steps, lr)
        if self.horizon_steps is not None and self.warmup_steps < steps and self.multiplier(steps - 1, steps) == 0:
            yield (
                "horizon_steps",
                f"the learning rate is 0 from step {self.horizon_steps:,} on, and the run has {steps:,} steps; give "
                "null for a decay to the end of the budget, or a final_fraction",
            )

    def after_warmup(self, step: int, horizon_steps: float) -> float:
        left = (self.horizon_steps or horizon_steps) - self.warmup_steps
        return self.falling(min(1.0, (step - self.warmup_steps) / left) if left > 0 else 1.0)

    @abstractmethod
    def falling(self, progress: float) -> float:
        """The multiplier at `progress` in [0, 1] of the decay."""


class Constant(Schedule):
    """A linear warmup, then 1 to the end."""

    def after_warmup(self, step: int, horizon_steps: float) -> float:
        return 1.0


@dataclass(kw_only=True)
class Cosine(Decay):
    """Half a cosine from 1 down to `final_fraction` f: falling(p) = f + (1 - f) (1 + cos(pi p)) / 2.

    Source: Loshchilov and Hutter (2016), arXiv:1608.03983, equation 5, without restarts; the floor of a tenth: Brown et
    al. (2020), arXiv:2005.14165, appendix B.
    """

    final_fraction: float = 0.1

    def falling(self, progress: float) -> float:
        return self.final_fraction + (1.0 - self.final_fraction) * 0.5 * (1.0 + math.cos(math.pi * progress))


class Linear(Decay):
    """A straight line from 1 down to `final_fraction` f: falling(p) = 1 - (1 - f) p.

    Source: to zero, Defazio et al. (2023), arXiv:2310.07831, for the last iterate.
    """

    def falling(self, progress: float) -> float:
        return 1.0 - (1.0 - self.final_fraction) * progress


class InverseSquareRoot(Schedule):
    """After a warmup of W steps, sqrt((W + 1) / (s + 1)) at step s (from 0); no horizon.

    Source: Vaswani et al. (2017), arXiv:1706.03762, section 5.3, scaled so that the peak is 1.
    """

    def after_warmup(self, step: int, horizon_steps: float) -> float:
        return math.sqrt((self.warmup_steps + 1) / (step + 1))


@dataclass
class WarmupStableDecay(Decay):
    """The peak until the decay begins, then from 1 down to `final_fraction` f over the last D steps.

    With horizon H (the end of the run) and p = (s - (H - D)) / D the share of the decay at step s,

        1                                       for p <= 0
        f + (1 - f) (1 - p)                     decay = linear
        f + (1 - f) (1 - sqrt(p))               decay = one_minus_sqrt
        f + (1 - f) (1 + cos(pi p)) / 2         decay = cosine

    D is `decay_steps`, or `decay_fraction` of H; one of the two is given. A decay that would begin before the end of
    the warmup begins at its end. Before the decay it equals `Constant` with the same warmup, so a run that decays can
    be branched from a checkpoint of one that does not (trainer.branch_from).

    Source: Hu et al. (2024), arXiv:2404.06395; one_minus_sqrt: Hagele et al. (2024), arXiv:2405.18392.
    """

    decay_fraction: float | None = 0.2
    decay_steps: int | None = None
    decay: Literal["linear", "one_minus_sqrt", "cosine"] = "one_minus_sqrt"

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction, steps = self.decay_fraction, self.decay_steps
        if (fraction is None) == (steps is None):
            raise ValueError(
                f"decay_fraction={fraction} and decay_steps={steps}: give one of them, and null for the other"
            )
        sound = fraction is None or 0.0 < fraction <= 1.0
        check("decay_fraction", fraction, sound, "must be in (0, 1]; 0.2 decays over the last fifth")
        check("decay_steps", steps, steps is None or steps > 0, "must be at least 1, or use schedule=constant")
        check_choice("decay", self.decay, ("linear", "one_minus_sqrt", "cosine"))

    def cautions(self, steps: int, lr: float | None) -> Iterator[tuple[str, str]]:
        yield from super().cautions(steps, lr)
        horizon = self.horizon_steps or steps
        left, length = horizon - self.warmup_steps, int(self._decay_length(horizon))
        if 0 < left < length:
            yield (
                "decay_fraction" if self.decay_steps is None else "decay_steps",
                f"the decay has {length:,} steps and the run {left:,} after its warmup: it has no stable "
                f"phase, and decays over {left:,} steps; give a larger budget, or fewer steps",
            )

    def after_warmup(self, step: int, horizon_steps: float) -> float:
        horizon = self.horizon_steps or horizon_steps
        if math.isinf(horizon):
            return 1.0
        length = min(self._decay_length(horizon), horizon - self.warmup_steps)
        if length <= 0:
            return self.final_fraction
        if step <= horizon - length:
            return 1.0
        return self.falling(min(1.0, (step - (horizon - length)) / length))

    def falling(self, progress: float) -> float:
        if self.decay == "cosine":
            left = 0.5 * (1.0 + math.cos(math.pi * progress))
        else:
            left = 1.0 - (progress if self.decay == "linear" else math.sqrt(progress))
        return self.final_fraction + (1.0 - self.final_fraction) * left

    def _decay_length(self, horizon: float) -> float:
        """D, before it is cut to what the warmup leaves."""
        return self.decay_steps if self.decay_steps is not None else (self.decay_fraction or 0.0) * horizon
