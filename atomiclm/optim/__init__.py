"""Parameter groups by role, optimizers, and learning-rate schedules.

Exports are resolved on first use, so that the schedules and the config rules can be had without importing torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomiclm.optim.adamw import AdamW
    from atomiclm.optim.groups import RoleSettings, parameter_groups
    from atomiclm.optim.schedule import Constant, Cosine, Schedule

_HOME = {
    "AdamW": "adamw",
    "RoleSettings": "groups",
    "parameter_groups": "groups",
    "Constant": "schedule",
    "Cosine": "schedule",
    "Schedule": "schedule",
}
__all__ = ["AdamW", "Constant", "Cosine", "RoleSettings", "Schedule", "parameter_groups"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
