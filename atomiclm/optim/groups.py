"""Parameter groups by role: which parameters decay, and at what share of the learning rate each kind learns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from atomiclm.optim.rules import ROLES


@dataclass(frozen=True)
class RoleSettings:
    """How an optimizer treats the roles of parameters."""

    decayed_roles: Sequence[str]
    lr_scales: Mapping[str, float]


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    roles: Mapping[str, str],
    settings: RoleSettings,
    lr: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Return one optimizer group a role that occurs, in the order of `ROLES`, parameters in the order given.

    A group holds `params`, `names`, `role`, `lr` (the role's peak, which a schedule multiplies) and `weight_decay`.
    Decay is for matrices: a gain or a bias has no scale-free direction to shrink towards, and shrinking the rows of
    rare tokens between their visits only adds noise (Loshchilov and Hutter 2017, arXiv:1711.05101, decouple the decay;
    leaving vectors out is the custom since GPT-2).

    Raises:
        ValueError: a parameter without a role.
    """
    members: dict[str, list[tuple[str, nn.Parameter]]] = {role: [] for role in ROLES}
    for name, parameter in named_parameters:
        if roles.get(name) not in members:
            raise ValueError(f"parameter '{name}' has the role {roles.get(name)!r}; known roles: {', '.join(ROLES)}")
        members[roles[name]].append((name, parameter))
    return [
        {
            "params": [parameter for _, parameter in pairs],
            "names": [name for name, _ in pairs],
            "role": role,
            "lr": lr * settings.lr_scales.get(role, 1.0),
            "weight_decay": weight_decay if role in settings.decayed_roles else 0.0,
        }
        for role, pairs in members.items()
        if pairs
    ]
