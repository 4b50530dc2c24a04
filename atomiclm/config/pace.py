"""How long two configurations take, one against the other, measured on this machine in turns."""

import statistics
from typing import Any

from atomiclm.config.build import build

_ROUNDS = 7
_STEPS = 6
_LARGEST_VOCABULARY = 2**16


def relative_seconds(values: dict[str, Any], baseline: dict[str, Any]) -> float:
    """Return the seconds of training a token costs under `values`, divided by those it costs under `baseline`.

    Both are trained on random tokens, a few steps each in turns, so that what else the machine does slows both; the
    first step of a turn is not counted (the other's data are in the caches), and the median over the turns is taken.
    Imports torch.
    """
    ours, theirs = _Pacer(values), _Pacer(baseline)
    for each in (ours, theirs):
        each.seconds_per_token()
    return statistics.median(ours.seconds_per_token() / theirs.seconds_per_token() for _ in range(_ROUNDS))


class _Pacer:
    """A training run on random tokens that goes on for as many steps as it is asked to."""

    def __init__(self, values: dict[str, Any]) -> None:
        import numpy as np

        from atomiclm.data import RandomWindows, TextDataset
        from atomiclm.model import parameter_roles
        from atomiclm.optim import Constant
        from atomiclm.training import TrainState

        endless = {"max_steps": 2**40, "max_tokens": None, "max_seconds": None, "branch_from": None}
        self.runtime = build(values["runtime"])
        self.runtime.prepare()
        self.trainer = build({**values["trainer"], **endless})
        model = build(values["model"]).to(self.runtime.device)
        self.state = TrainState(model, build(values["optim"])(model.named_parameters(), parameter_roles(model)))
        ids = np.random.default_rng(0).integers(min(model.vocab_size, _LARGEST_VOCABULARY), size=2**16, dtype=np.uint32)
        self.batches = TextDataset(ids, model.context_length, RandomWindows(seed=0))
        self.schedule = Constant()

    def seconds_per_token(self) -> float:
        """Take a few steps; the median of all but the first, by token."""
        timer = _StepTimes()
        last = self.state.step + _STEPS
        self.trainer.fit(
            self.state, self.batches, self.schedule, self.runtime, [timer], lambda: self.state.step >= last
        )
        return statistics.median(timer.seconds_per_token[1:])


class _StepTimes:
    """A hook that notes what each step took."""

    def __init__(self) -> None:
        self.seconds_per_token: list[float] = []

    def after_step(self, state: Any, result: Any, progress: float) -> None:
        """Note it."""
        self.seconds_per_token.append(result.seconds / result.tokens)
