"""Optimizers with parameter groups by role, and learning-rate schedules."""

from atomiclm.optim.adafactor import Adafactor
from atomiclm.optim.adamw import AdamW
from atomiclm.optim.base import RoleOptimizer, unusual_rates
from atomiclm.optim.lion import Lion
from atomiclm.optim.muon import Muon
from atomiclm.optim.schedule_free import ScheduleFreeAdamW
from atomiclm.optim.schedules import Constant, Cosine, InverseSquareRoot, Linear, Schedule, WarmupStableDecay
from atomiclm.optim.soap import SOAP

__all__ = [
    "SOAP", "Adafactor", "AdamW", "Constant", "Cosine", "InverseSquareRoot", "Linear", "Lion", "Muon",
    "RoleOptimizer", "Schedule", "ScheduleFreeAdamW", "WarmupStableDecay", "unusual_rates",
]  # fmt: skip
