"""Parameter groups by role, optimizers, and learning-rate schedules.

Exports are resolved on first use, so that the schedules and the config rules can be had without importing torch.
"""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.optim.adafactor import Adafactor
    from atomiclm.optim.adamw import AdamW
    from atomiclm.optim.base import RoleOptimizer
    from atomiclm.optim.constant import Constant
    from atomiclm.optim.cosine import Cosine
    from atomiclm.optim.groups import RoleSettings, parameter_groups
    from atomiclm.optim.inverse_square_root import InverseSquareRoot
    from atomiclm.optim.linear_decay import Linear
    from atomiclm.optim.lion import Lion
    from atomiclm.optim.muon import Muon
    from atomiclm.optim.schedule import Schedule
    from atomiclm.optim.schedule_free import ScheduleFreeAdamW
    from atomiclm.optim.soap import SOAP
    from atomiclm.optim.warmup_stable_decay import WarmupStableDecay

_MODULE_OF = {
    "SOAP": "soap",
    "Adafactor": "adafactor",
    "AdamW": "adamw",
    "Constant": "constant",
    "Cosine": "cosine",
    "InverseSquareRoot": "inverse_square_root",
    "Linear": "linear_decay",
    "Lion": "lion",
    "Muon": "muon",
    "RoleOptimizer": "base",
    "RoleSettings": "groups",
    "Schedule": "schedule",
    "ScheduleFreeAdamW": "schedule_free",
    "WarmupStableDecay": "warmup_stable_decay",
    "parameter_groups": "groups",
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
