"""The training loop, its state and checkpoints, and how a machine runs it."""

from atomiclm.training.bad_steps import RewindBadSteps, SkipBadSteps, SpikeDetector, StopAtBadStep
from atomiclm.training.runtime import Runtime
from atomiclm.training.state import TrainState
from atomiclm.training.step import ExponentialAverage
from atomiclm.training.trainer import Budget, Trainer

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
