"""What all optimizers here share: parameter groups by role, rules for settings, and a step over the parameters."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from atomiclm.roles import ROLES

HIDDEN_ROLES = ("matrix", "residual")


@dataclass(frozen=True)
class RoleSettings:
    """How an optimizer treats the roles of parameters.

    Attributes:
        lr: peak learning rate.
        weight_decay: decay of the roles in `decayed_roles`; the others have none.
        decayed_roles: roles that decay.
        lr_scales: factor on the learning rate by role; 1 where a role is not named.
        lr_of_roles: peak learning rate of roles that have one of their own, in place of `lr`.

    Raises:
        ValueError: a setting out of range; the message begins with its name.
    """

    lr: float
    weight_decay: float
    decayed_roles: Sequence[str]
    lr_scales: Mapping[str, float] | None = None
    lr_of_roles: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rate("lr", self.lr)
        check(
            "weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf,
            "is negative or not finite; give 0 for none",
        )  # fmt: skip
        check_roles("decayed_roles", self.decayed_roles)
        for role, scale in (self.lr_scales or {}).items():
            if role not in ROLES:
                raise ValueError(f"lr_scales.{role}: no such role of a parameter; roles: {', '.join(ROLES)}")
            check(f"lr_scales.{role}", scale, scale >= 0, "is not a number of at least 0")


class RoleOptimizer(torch.optim.Optimizer, ABC):
    """A rule that updates one parameter at a time, from its gradient and its own state.

    State that is a tensor is saved in checkpoints as a tensor and state that is a number as a number, by the name of
    the parameter; both come back to the last bit. Settings are attributes of the optimizer; a group of `param_groups`
    holds only what differs between groups: `params`, `names`, `role`, `lr`, `weight_decay`.

    A weight of more than two dimensions is a batch of matrices in its last two, each treated as if it were a parameter
    of its own (the experts of a mixture: (experts, out, in)).

    Args:
        named_parameters: as `model.named_parameters()` gives them.
        roles: the role of each name, one of `atomiclm.roles.ROLES`.
        lr_multipliers: factor on the learning rate by name, from the model's parametrisation (muP); 1 where not named.
        settings: of the roles. Subclasses take them as arguments: `lr`, `weight_decay`, `decayed_roles`, `lr_scales`.

    Raises:
        ValueError: a setting out of range, a parameter without a role, or a multiplier without a parameter.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        roles: Mapping[str, str],
        lr_multipliers: Mapping[str, float] | None,
        settings: RoleSettings,
    ) -> None:
        self.lr = settings.lr
        self.weight_decay = settings.weight_decay
        self.decayed_roles = settings.decayed_roles
        self.lr_scales = settings.lr_scales
        super().__init__(parameter_groups(named_parameters, roles, lr_multipliers or {}, settings), {})

    # As torch has it, without the wrapper that loads torch's compiler at the first call, which takes a second.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there; a parameter without one is left alone."""
        assert closure is None, "optimizers here need no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, self.state[parameter], group)

    @abstractmethod
    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change `weight` and `state` in place for one step, not `gradient`. `state` is empty before the first."""

    @classmethod
    @abstractmethod
    def state_elements(cls, shape: tuple[int, ...], role: str, settings: Mapping[str, Any]) -> int:
        """Numbers that the tensors of one parameter's state hold.

        Args:
            shape: of the parameter.
            role: of the parameter.
            settings: the optimizer's arguments by name, as its config node has them; an absent one has its default.
        """


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    roles: Mapping[str, str],
    lr_multipliers: Mapping[str, float],
    settings: RoleSettings,
) -> list[dict[str, Any]]:
    """Return one optimizer group for each role and multiplier that occur, roles in the order of `ROLES`.

    A group holds `params`, `names`, `role`, `lr` (its peak, which a schedule multiplies: the role's learning rate times
    the role's scale times the multiplier) and `weight_decay`. Decay is for matrices: a gain or a bias has no scale-free
    direction to shrink towards, and shrinking the rows of rare tokens between their visits only adds noise (Loshchilov
    and Hutter 2017, arXiv:1711.05101, decouple the decay; leaving vectors out is the custom since GPT-2).

    Arguments and errors are those of `RoleOptimizer`.
    """
    members: dict[tuple[int, float], list[tuple[str, nn.Parameter]]] = {}
    unused = set(lr_multipliers)
    for name, parameter in named_parameters:
        if roles.get(name) not in ROLES:
            raise ValueError(f"parameter '{name}' has the role {roles.get(name)!r}; known roles: {', '.join(ROLES)}")
        key = (ROLES.index(roles[name]), float(lr_multipliers.get(name, 1.0)))
        members.setdefault(key, []).append((name, parameter))
        unused.discard(name)
    if unused:
        raise ValueError(f"lr_multipliers names {sorted(unused)[0]!r}, which is no parameter of this model")
    groups = []
    for (index, multiplier), pairs in sorted(members.items(), key=lambda entry: entry[0][0]):
        role = ROLES[index]
        peak = settings.lr_of_roles.get(role, settings.lr) * (settings.lr_scales or {}).get(role, 1.0)
        groups.append(
            {
                "params": [parameter for _, parameter in pairs],
                "names": [name for name, _ in pairs],
                "role": role,
                "lr": peak * multiplier,
                "weight_decay": settings.weight_decay if role in settings.decayed_roles else 0.0,
            }
        )
    return groups


# ----------------------------------------------------------------------------------------------------------------------
# Rules for settings, the same in every optimizer. Each raises ValueError with the argument, the rule and a usual value.

_GREATEST_FLOAT32 = (2.0 - 2.0**-23) * 2.0**127
_LEAST_FLOAT32 = 2.0**-126
"""The least number of full precision; processors may take smaller ones for 0, and then 0 / eps is NaN."""


def check(name: str, value: Any, sound: bool, rule: str) -> None:
    """Raise ValueError, `name: value rule`, unless the value is sound and within float32."""
    for number in value if isinstance(value, Sequence) else [value]:
        if isinstance(number, int | float) and abs(number) > _GREATEST_FLOAT32:
            raise ValueError(
                f"{name}: {str(number)[:30]} is more than float32 holds, {_GREATEST_FLOAT32:.2g}; give less"
            )
    if not sound:
        raise ValueError(f"{name}: {list(value) if isinstance(value, tuple) else value} {rule}")


def check_rate(name: str, value: float) -> None:
    usual = " to ".join(_USUAL_RATES[name])
    check(name, value, value >= _LEAST_FLOAT32, f"is not a positive number of float32; the usual range is {usual}")


def check_betas(name: str, value: Sequence[float]) -> None:
    sound = len(value) == 2 and all(0.0 <= beta < 1.0 for beta in value)
    check(name, value, sound, "must be two numbers in [0, 1); usual values are [0.9, 0.95]")


def check_eps(name: str, value: float) -> None:
    rule = f"is not positive in float32, whose least number is {_LEAST_FLOAT32:.2g}; the usual value is 1e-8"
    check(name, value, value >= _LEAST_FLOAT32, rule)


def check_roles(name: str, value: Sequence[str]) -> None:
    for role in value:
        if role not in ROLES:
            raise ValueError(f"{name}: '{role}' is no role of a parameter; roles: {', '.join(ROLES)}")


_USUAL_RATES = {"lr": ("1e-4", "3e-2"), "adamw_lr": ("1e-4", "1e-2")}
_UNUSUAL = 30


def unusual_rates(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each sound learning rate that is _UNUSUAL times above or below what is usual.

    settings: the optimizer's arguments by name, as its config node has them.
    """
    rates = {name: float(settings[name]) for name in _USUAL_RATES if settings.get(name) is not None}
    doubts = {name: _unusual(name, rate) for name, rate in rates.items()}
    yield from ((name, message) for name, message in doubts.items() if message)
    for role, scale in (settings.get("lr_scales") or {}).items():
        is_adamws = "adamw_lr" in rates and role not in settings.get("orthogonalized_roles", ())
        base = "adamw_lr" if is_adamws else "lr"
        if scale and base in rates and not doubts[base] and (message := _unusual(base, rates[base] * scale)):
            yield f"lr_scales.{role}", f"{scale:g} makes a learning rate of {message}"


def _unusual(name: str, rate: float) -> str | None:
    low, high = map(float, _USUAL_RATES[name])
    factor, side = (rate / high, "above") if rate > high else (low / rate, "below")
    if factor < _UNUSUAL:
        return None
    return f"{rate:g}, {factor:.3g} times {side} the usual range, {' to '.join(_USUAL_RATES[name])}"
