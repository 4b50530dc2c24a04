"""AdamW: Adam with the weight decay taken out of the gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomiclm.optim.base import RoleOptimizer, check_betas, check_eps


@dataclass(eq=False, repr=False, kw_only=True)
class AdamW(RoleOptimizer):
    """For each parameter w with gradient g at step t (from 1), learning rate a, decay d, betas (b1, b2):

        m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
        w <- (1 - a d) w - a (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Source: Loshchilov and Hutter (2017), arXiv:1711.05101, algorithm 2, with the decay multiplied by the learning rate
    as in torch.optim.AdamW, which this equals step by step (tests/reference).
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8

    def check_settings(self) -> None:
        check_betas("betas", self.betas)
        check_eps("eps", self.eps)

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        adamw_update(weight, gradient, state, group, self.betas, self.eps)


def adamw_update(
    weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], betas: Sequence[float], eps: float
) -> None:
    """One step of AdamW on one parameter, in place; also for what other optimizers leave to it."""
    if not state:
        state["step"] = 0
        state["first_moment"] = torch.zeros_like(weight)
        state["second_moment"] = torch.zeros_like(weight)
    state["step"] += 1
    first, second, step = state["first_moment"], state["second_moment"], state["step"]
    beta1, beta2 = betas
    weight.mul_(1.0 - group["lr"] * group["weight_decay"])
    first.lerp_(gradient, 1.0 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    denominator = second.sqrt().div_((1.0 - beta2**step) ** 0.5).add_(eps)
    weight.addcdiv_(first, denominator, value=-group["lr"] / (1.0 - beta1**step))
