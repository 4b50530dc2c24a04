"""Schedule-free AdamW: gradients between the iterate and its average, and no decay of the learning rate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from atomiclm.optim.base import Group, RoleOptimizer, State, check, check_betas, check_eps

_LEAST_BETA1 = 0.01


@dataclass(eq=False, repr=False, kw_only=True)
class ScheduleFreeAdamW(RoleOptimizer):
    """The model is trained at y, between the fast iterate z and the running average x; x is what is evaluated.

    For each parameter at step t (from 1), with learning rate a_t (warmup included), decay d, betas (b1, b2):

        y = (1 - b1) z + b1 x                 where the gradient g is taken; the weights of the model in training
        v <- b2 v + (1 - b2) g^2              r_t = a_t sqrt(1 - b2^t)
        z <- z - r_t (g / (sqrt(v) + eps) + d y)
        x <- (1 - c) x + c z                  c = r_t^2 / (r_1^2 + ... + r_t^2)

    Source: Defazio et al. (2024), arXiv:2405.15682, algorithm 1; the warmup is the schedule's. Use schedule=constant:
    the averaging takes the place of the decay. Only y and z are stored, x follows from them (`averaged_weights`).
    """

    lr: float = 2.5e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    elementwise = True

    def check_settings(self) -> None:
        check_betas("betas", self.betas)
        check_eps("eps", self.eps)
        rule = (
            f"must begin with one of at least {_LEAST_BETA1}: below it the average is lost to rounding, and at 0 "
            "gradients ignore it; 0.9 is usual"
        )
        check("betas", self.betas, self.betas[0] >= _LEAST_BETA1, rule)

    def update(self, weights: list[Tensor], gradients: list[Tensor], states: list[State], group: Group) -> None:
        beta1, beta2 = self.betas
        rates, shares = [], []
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state["step"] = 0
                state["squared_rates"] = 0.0
                state["iterate"] = weight.clone()
                state["second_moment"] = torch.zeros_like(weight)
            state["step"] += 1
            rate = group["lr"] * math.sqrt(1.0 - beta2 ** state["step"])
            state["squared_rates"] += rate**2
            rates.append(rate)
            shares.append(rate**2 / state["squared_rates"] if state["squared_rates"] else 0.0)
        iterates, seconds = [state["iterate"] for state in states], [state["second_moment"] for state in states]
        torch._foreach_mul_(seconds, beta2)
        torch._foreach_addcmul_(seconds, gradients, gradients, value=1.0 - beta2)
        roots = torch._foreach_sqrt(seconds)
        torch._foreach_add_(roots, self.eps)
        changes = torch._foreach_div(gradients, roots)
        torch._foreach_add_(changes, weights, alpha=group["weight_decay"])
        # x <- (1 - c) x + c z_new and y = (1 - b1) z_new + b1 x give y without x: y <- (1 - c) y + c z - r (...).
        torch._foreach_lerp_(weights, iterates, shares)
        torch._foreach_mul_(changes, [-rate for rate in rates])
        torch._foreach_add_(iterates, changes)
        torch._foreach_mul_(changes, [1.0 - beta1 * (1.0 - share) for share in shares])
        torch._foreach_add_(weights, changes)

    def averaged_weights(self) -> dict[str, Tensor]:
        """x of every parameter that was updated, by name: x = (y - (1 - b1) z) / b1."""
        return {
            name: parameter.detach().lerp(self.state[parameter]["iterate"], 1.0 - 1.0 / self.betas[0])
            for group in self.param_groups
            for name, parameter in zip(group["names"], group["params"], strict=True)
            if parameter in self.state
        }
