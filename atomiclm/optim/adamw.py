"""AdamW: Adam with the weight decay taken out of the gradient."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atomiclm.optim.groups import RoleSettings, parameter_groups
from atomiclm.optim.rules import check_optimizer


class AdamW(torch.optim.Optimizer):
    """AdamW over parameter groups by role.

    For each parameter w with gradient g at step t (from 1), learning rate a, decay d:

        m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
        w <- (1 - a d) w - a (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Source: Loshchilov and Hutter (2017), arXiv:1711.05101, algorithm 2, with the decay multiplied by the learning rate
    as in torch.optim.AdamW, which this equals step by step (tests/reference).

    Args:
        named_parameters: as `model.named_parameters()` gives them.
        roles: the role of each name, see `atomiclm.optim.rules.ROLES`.
        lr: peak learning rate.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: d, applied to `decayed_roles` only.
        decayed_roles: roles that decay.
        lr_scales: factor on the learning rate by role; 1 where a role is not named.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        roles: Mapping[str, str],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        decayed_roles: Sequence[str] = ("matrix", "residual"),
        lr_scales: dict[str, float] | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "decayed_roles": decayed_roles, "lr_scales": lr_scales,
        }  # fmt: skip
        for argument, message in check_optimizer(settings):
            raise ValueError(f"{argument}: {message}")
        by_role = RoleSettings(decayed_roles, lr_scales or {})
        groups = parameter_groups(named_parameters, roles, by_role, lr, weight_decay)
        super().__init__(groups, {"betas": tuple(betas), "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there; a parameter without one is left alone."""
        assert closure is None, "AdamW needs no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = 0
            state["first_moment"] = torch.zeros_like(weight)
            state["second_moment"] = torch.zeros_like(weight)
        state["step"] += 1
        first, second, step = state["first_moment"], state["second_moment"], state["step"]
        beta1, beta2 = group["betas"]
        weight.mul_(1.0 - group["lr"] * group["weight_decay"])
        first.lerp_(gradient, 1.0 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        scale = (1.0 - beta2**step) ** 0.5
        denominator = second.sqrt().div_(scale).add_(group["eps"])
        weight.addcdiv_(first, denominator, value=-group["lr"] / (1.0 - beta1**step))
