"""What all optimizers here share: parameter groups by role, rules for settings, and a step over the parameters."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from atomiclm.roles import ROLES

HIDDEN_ROLES = ("matrix", "residual")

State = dict[str, Any]
"""What an optimizer remembers of one parameter: tensors and numbers, by name."""
Group = dict[str, Any]
"""Parameters that are treated alike, and how: see `RoleOptimizer`."""


@dataclass(eq=False, repr=False)
class RoleOptimizer(torch.optim.Optimizer, ABC):
    """A rule that updates each parameter from its gradient and its own state, all those of a group in one call.

    State is saved by the name of the parameter, tensors as tensors and numbers as numbers; both come back to the last
    bit. Settings are attributes of the optimizer; a group of `param_groups` holds only what differs between groups:
    `params`, `names`, `role`, `lr` (its peak, which a schedule multiplies: the role's learning rate times the role's
    scale times the multiplier), `weight_decay`.

    A weight of more than two dimensions is a batch of matrices in its last two, each treated as if it were a parameter
    of its own (the experts of a mixture: (experts, out, in)). Decay is decoupled (Loshchilov and Hutter 2017,
    arXiv:1711.05101), and for matrices: a gain or a bias has no scale-free direction to shrink towards, and shrinking
    the rows of rare tokens between their visits only adds noise.

    Args:
        named_parameters: as `model.named_parameters()` gives them.
        roles: the role of each name, one of `atomiclm.roles.ROLES`.
        lr_multipliers: factor on the learning rate by name, from the model's parametrisation (muP); 1 where not named.
        lr: peak learning rate.
        weight_decay: decay of the roles in `decayed_roles`; the others have none.
        decayed_roles: roles that decay.
        lr_scales: factor on the learning rate by role; 1 where a role is not named.

    Raises:
        ValueError: a setting out of range, a parameter without a role, or a multiplier without a parameter.
    """

    named_parameters: InitVar[Iterable[tuple[str, nn.Parameter]]]
    roles: InitVar[Mapping[str, str]]
    lr_multipliers: InitVar[Mapping[str, float] | None] = None
    _: KW_ONLY
    lr: float
    weight_decay: float = 0.1
    decayed_roles: Sequence[str] = HIDDEN_ROLES
    lr_scales: dict[str, float] | None = None

    num_moments: ClassVar[int] = 2
    """Tensors of a parameter's shape that its state holds."""

    elementwise: ClassVar[bool] = False
    """Whether each number of a parameter is updated from that number of its gradient and state alone, so that a part of
    a parameter can be updated by itself."""

    def __post_init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        roles: Mapping[str, str],
        lr_multipliers: Mapping[str, float] | None,
    ) -> None:
        check_rate("lr", self.lr)
        decays = 0 <= self.weight_decay < math.inf
        check("weight_decay", self.weight_decay, decays, "must be at least 0 and finite; 0 is none")
        check_roles("decayed_roles", self.decayed_roles)
        for role, scale in (self.lr_scales or {}).items():
            check(f"lr_scales.{role}", scale, role in ROLES, f"must be for a role of parameters: {', '.join(ROLES)}")
            check(f"lr_scales.{role}", scale, scale >= 0, "must be at least 0")
        self.check_settings()
        super().__init__(self._groups(named_parameters, roles, lr_multipliers or {}), {})

    def check_settings(self) -> None:
        """Raise ValueError for a setting of the subclass that is out of range."""

    def peak_lr(self, role: str) -> float:
        """Peak learning rate of a role before its scale and the multipliers."""
        return self.lr

    def _groups(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        roles: Mapping[str, str],
        lr_multipliers: Mapping[str, float],
    ) -> list[Group]:
        """One group for each role and multiplier that occur, roles in the order of `ROLES`."""
        members: dict[tuple[str, float], list[tuple[str, nn.Parameter]]] = {}
        unused = set(lr_multipliers)
        for name, parameter in named_parameters:
            role = roles.get(name)
            if role not in ROLES:
                raise ValueError(f"parameter '{name}' has the role {role!r}; known roles: {', '.join(ROLES)}")
            members.setdefault((role, float(lr_multipliers.get(name, 1.0))), []).append((name, parameter))
            unused.discard(name)
        if unused:
            raise ValueError(f"lr_multipliers names {min(unused)!r}, which is no parameter of this model")
        return [
            {
                "params": [parameter for _, parameter in pairs],
                "names": [name for name, _ in pairs],
                "role": role,
                "lr": self.peak_lr(role) * (self.lr_scales or {}).get(role, 1.0) * multiplier,
                "weight_decay": self.weight_decay if role in self.decayed_roles else 0.0,
            }
            for (role, multiplier), pairs in sorted(members.items(), key=lambda entry: ROLES.index(entry[0][0]))
        ]

    # As torch has them, without the wrapper that loads torch's compiler at the first call, which takes two seconds.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there; a parameter without one is left alone."""
        assert closure is None, "optimizers here need no closure"
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                gradients = [parameter.grad for parameter in moved]
                self.update(moved, gradients, [self.state[parameter] for parameter in moved], group)

    @abstractmethod
    def update(self, weights: list[Tensor], gradients: list[Tensor], states: list[State], group: Group) -> None:
        """Change `weights` and `states` in place for one step, not `gradients`: parameters of one group, at least one.

        A state is empty before its first step. The `torch._foreach_` functions do one operation on all tensors of a
        list: in one kernel on an accelerator, in one call from Python elsewhere.
        """

    @classmethod
    def state_elements(cls, shape: tuple[int, ...], role: str, settings: Mapping[str, Any]) -> int:
        """Numbers that the tensors of one parameter's state hold, by its shape and role.

        `settings` are the optimizer's arguments by name, as its config node has them; an absent one has its default.
        """
        return cls.num_moments * math.prod(shape)


# Rules for settings. Each raises ValueError: `name=value must ...`, and a usual value.

_GREATEST_FLOAT32 = (2.0 - 2.0**-23) * 2.0**127
_LEAST_FLOAT32 = 2.0**-126
"""The least number of full precision; processors may take smaller ones for 0, and then 0 / eps is NaN."""


def check(name: str, value: Any, sound: bool, rule: str) -> None:
    """Raise ValueError, `name=value rule`, unless the value is sound and within float32."""
    for number in value if isinstance(value, Sequence) else [value]:
        if isinstance(number, int | float) and abs(number) > _GREATEST_FLOAT32:
            raise ValueError(
                f"{name}={str(number)[:30]} must be at most {_GREATEST_FLOAT32:.2g}, the greatest number of float32"
            )
    if not sound:
        raise ValueError(f"{name}={list(value) if isinstance(value, tuple) else value} {rule}")


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    check(name, value, value in known, f"must be one of {', '.join(known)}")


def check_rate(name: str, value: float) -> None:
    usual = " to ".join(_USUAL_RATES[name])
    check(name, value, value >= _LEAST_FLOAT32, f"must be positive in float32; the usual range is {usual}")


def check_positive(name: str, value: float, usual: str) -> None:
    check(name, value, value > 0, f"must be positive; usual is {usual}")


def check_betas(name: str, value: Sequence[float]) -> None:
    sound = len(value) == 2 and all(0.0 <= beta < 1.0 for beta in value)
    check(name, value, sound, "must be two numbers in [0, 1); usual values are [0.9, 0.95]")


def check_eps(name: str, value: float) -> None:
    rule = f"must be positive in float32, whose least number is {_LEAST_FLOAT32:.2g}; the usual value is 1e-8"
    check(name, value, value >= _LEAST_FLOAT32, rule)


def check_roles(name: str, value: Sequence[str]) -> None:
    check(name, list(value), set(value) <= set(ROLES), f"must be roles of parameters: {', '.join(ROLES)}")


_USUAL_RATES = {"lr": ("1e-4", "3e-2"), "adamw_lr": ("1e-4", "1e-2")}
_UNUSUAL = 30


def unusual_rates(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each sound learning rate that is _UNUSUAL times above or below what is usual."""
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
