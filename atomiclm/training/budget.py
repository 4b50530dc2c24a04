"""How much training a run gets: in steps, tokens or seconds, whichever ends first."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Limits on a run. At least one must be given; the first one reached ends the run.

    `max_seconds` counts time spent in training steps only: validation, samples and checkpoints are not charged, so a
    comparison at equal seconds does not depend on how closely the runs were watched.
    """

    max_steps: int | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        limits = {"max_steps": self.max_steps, "max_tokens": self.max_tokens, "max_seconds": self.max_seconds}
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ValueError(
                    f"{name}: {limit} is not a positive budget; give a positive number, or null for no limit"
                )
        if all(limit is None for limit in limits.values()):
            raise ValueError("max_tokens: no limit; give one of max_steps, max_tokens, max_seconds")

    def steps(self, tokens_per_step: int) -> int | None:
        """Return the number of steps the budget in steps and tokens allows (the last one may pass `max_tokens`)."""
        from_tokens = math.ceil(self.max_tokens / tokens_per_step) if self.max_tokens else None
        counts = [count for count in (self.max_steps, from_tokens) if count is not None]
        return min(counts) if counts else None

    def progress(self, step: int, seconds: float, tokens_per_step: int) -> float:
        """Return the fraction of the budget that is used: 0 at the start, 1 or more when the run is over."""
        steps = self.steps(tokens_per_step)
        fractions = [step / steps] if steps else []
        if self.max_seconds:
            fractions.append(seconds / self.max_seconds)
        return max(fractions)

    def horizon_steps(self, step: int, seconds: float, tokens_per_step: int) -> float:
        """Return how many steps the whole run takes, for the schedule: exact, or estimated from the pace so far."""
        steps = self.steps(tokens_per_step)
        if self.max_seconds and step > 0 and seconds > 0:
            at_this_pace = step * self.max_seconds / seconds
            return min(at_this_pace, steps) if steps else at_this_pace
        return float(steps) if steps else math.inf
