"""The training loop, its state and checkpoints, and how a machine runs it. Exports are resolved on first use."""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.training.averaging import ExponentialAverage
    from atomiclm.training.bad_steps import RewindBadSteps, SkipBadSteps, SpikeDetector, StopAtBadStep
    from atomiclm.training.budget import Budget
    from atomiclm.training.runtime import Runtime
    from atomiclm.training.state import TrainState
    from atomiclm.training.trainer import Trainer

_MODULE_OF = {
    "Budget": "budget",
    "ExponentialAverage": "averaging",
    "RewindBadSteps": "bad_steps",
    "Runtime": "runtime",
    "SkipBadSteps": "bad_steps",
    "SpikeDetector": "bad_steps",
    "StopAtBadStep": "bad_steps",
    "TrainState": "state",
    "Trainer": "trainer",
}
__all__ = [
    "Budget",
    "ExponentialAverage",
    "RewindBadSteps",
    "Runtime",
    "SkipBadSteps",
    "SpikeDetector",
    "StopAtBadStep",
    "TrainState",
    "Trainer",
]

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
