"""Parameter groups by role, optimizers, and learning-rate schedules.

Exports are resolved on first use, so that the schedules and the config rules can be had without importing torch.
"""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.optim.adafactor import Adafactor
    from atomiclm.optim.adamw import AdamW
    from atomiclm.optim.base import RoleOptimizer, RoleSettings, parameter_groups
    from atomiclm.optim.lion import Lion
    from atomiclm.optim.muon import Muon
    from atomiclm.optim.schedule_free import ScheduleFreeAdamW
    from atomiclm.optim.schedules import Constant, Cosine, InverseSquareRoot, Linear, Schedule, WarmupStableDecay
    from atomiclm.optim.soap import SOAP

_MODULE_OF = {
    "SOAP": "soap",
    "Adafactor": "adafactor",
    "AdamW": "adamw",
    "Constant": "schedules",
    "Cosine": "schedules",
    "InverseSquareRoot": "schedules",
    "Linear": "schedules",
    "Lion": "lion",
    "Muon": "muon",
    "RoleOptimizer": "base",
    "RoleSettings": "base",
    "Schedule": "schedules",
    "ScheduleFreeAdamW": "schedule_free",
    "WarmupStableDecay": "schedules",
    "parameter_groups": "base",
}
__all__ = [
    "SOAP",
    "Adafactor",
    "AdamW",
    "Constant",
    "Cosine",
    "InverseSquareRoot",
    "Linear",
    "Lion",
    "Muon",
    "RoleOptimizer",
    "RoleSettings",
    "Schedule",
    "ScheduleFreeAdamW",
    "WarmupStableDecay",
    "parameter_groups",
]

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
