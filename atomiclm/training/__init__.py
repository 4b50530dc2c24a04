"""The training loop, its state and checkpoints, and how a machine runs it. Exports are resolved on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomiclm.training.averaging import ExponentialAverage
    from atomiclm.training.bad_steps import RewindBadSteps, SkipBadSteps, SpikeDetector, StopAtBadStep
    from atomiclm.training.budget import Budget
    from atomiclm.training.runtime import Runtime
    from atomiclm.training.state import TrainState
    from atomiclm.training.trainer import Trainer

_HOME = {
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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
