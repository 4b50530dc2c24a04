"""Warmup, stable, decay: one trunk at the peak learning rate serves runs of any length, each with its own decay."""

import math
from collections.abc import Iterator
from typing import Literal

from atomiclm.optim.schedule import Schedule, check_final_fraction, check_horizon


class WarmupStableDecay(Schedule):
    """The peak until the decay begins, then from 1 down to `final_fraction` f over the last D steps.

    With horizon H (the end of the run) and p = (s - (H - D)) / D the share of the decay at step s,

        1                                       for p <= 0
        f + (1 - f) (1 - p)                     decay = linear
        f + (1 - f) (1 - sqrt(p))               decay = one_minus_sqrt
        f + (1 - f) (1 + cos(pi p)) / 2         decay = cosine

    D is `decay_steps`, or `decay_fraction` of H; one of the two is given. A decay that would begin before the end of
    the warmup begins at its end.

    Source: Hu et al. (2024), arXiv:2404.06395; one_minus_sqrt: Hagele et al. (2024), arXiv:2405.18392.
    Before the decay it equals `Constant` with the same warmup, so a run that decays can be branched from a checkpoint
    of one that does not (trainer.branch_from), and is the same run as if it had been planned so from the start.

    horizon_steps: H in steps; null = the end of the run's budget.
    """

    def __init__(
        self,
        warmup_steps: int = 0,
        decay_fraction: float | None = 0.2,
        decay_steps: int | None = None,
        decay: Literal["linear", "one_minus_sqrt", "cosine"] = "one_minus_sqrt",
        final_fraction: float = 0.0,
        horizon_steps: int | None = None,
    ) -> None:
        super().__init__(warmup_steps)
        check_final_fraction(final_fraction)
        check_horizon(horizon_steps, warmup_steps)
        if (decay_fraction is None) == (decay_steps is None):
            raise ValueError(
                f"decay_fraction={decay_fraction} and decay_steps={decay_steps}: give one of them, and null for the "
                "other"
            )
        if decay_fraction is not None and not 0.0 < decay_fraction <= 1.0:
            raise ValueError(f"decay_fraction={decay_fraction} is not in (0, 1]; 0.2 decays over the last fifth")
        if decay_steps is not None and decay_steps < 1:
            raise ValueError(f"decay_steps={decay_steps} is not positive; give at least 1, or use schedule=constant")
        if decay not in ("linear", "one_minus_sqrt", "cosine"):
            raise ValueError(f"decay={decay!r} is not one of: linear, one_minus_sqrt, cosine")
        self.decay_fraction = decay_fraction
        self.decay_steps = decay_steps
        self.decay = decay
        self.final_fraction = final_fraction
        self.horizon_steps = horizon_steps

    def cautions(self, steps: int, lr: float | None) -> Iterator[tuple[str, str]]:
        """Those of every schedule, and a decay that leaves no step at the peak."""
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
        """Return 1, or the share of the peak that the decay has left."""
        horizon = self.horizon_steps or horizon_steps
        if math.isinf(horizon):
            return 1.0
        length = min(self._decay_length(horizon), horizon - self.warmup_steps)
        if length <= 0:
            return self.final_fraction
        if step <= horizon - length:
            return 1.0
        left = self._left(min(1.0, (step - (horizon - length)) / length))
        return self.final_fraction + (1.0 - self.final_fraction) * left

    def _left(self, progress: float) -> float:
        if self.decay == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        return 1.0 - (progress if self.decay == "linear" else math.sqrt(progress))

    def _decay_length(self, horizon: float) -> float:
        """D, before it is cut to what the warmup leaves."""
        return self.decay_steps if self.decay_steps is not None else (self.decay_fraction or 0.0) * horizon
