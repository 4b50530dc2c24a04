"""AdamW: Adam with the weight decay taken out of the gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atomiclm.optim.base import Group, RoleOptimizer, State, check_betas, check_eps


@dataclass(eq=False, repr=False, kw_only=True)
class AdamW(RoleOptimizer):
    """For each parameter w with gradient g at step t (from 1), learning rate a, decay d, betas (b1, b2):

        m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
        w <- (1 - a d) w - a (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Source: Loshchilov and Hutter (2017), arXiv:1711.05101, algorithm 2, with the decay multiplied by the learning rate
    as in torch.optim.AdamW, which this equals step by step and the equations in NumPy (tests/reference).
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8

    elementwise = True

    def check_settings(self) -> None:
        check_betas("betas", self.betas)
        check_eps("eps", self.eps)

    def update(self, weights: list[Tensor], gradients: list[Tensor], states: list[State], group: Group) -> None:
        adamw_update(weights, gradients, states, group, self.betas, self.eps)


def adamw_update(
    weights: list[Tensor],
    gradients: list[Tensor],
    states: list[State],
    group: Group,
    betas: Sequence[float],
    eps: float,
) -> None:
    """One step of AdamW in place, in torch's fused kernel: every number is read and written once. Also for what other
    optimizers leave to it."""
    for weight, state in zip(weights, states, strict=True):
        if not state:
            state["step"] = 0
            state["first_moment"] = torch.zeros_like(weight)
            state["second_moment"] = torch.zeros_like(weight)
        state["step"] += 1
    # Made on the device: a copy from here would wait for it. Most often there is one. Accelerators read it as float32.
    steps = {
        step: torch.full((), step, dtype=torch.float32, device=weights[0].device)
        for step in {state["step"] for state in states}
    }
    torch._fused_adamw_(
        weights,
        gradients,
        [state["first_moment"] for state in states],
        [state["second_moment"] for state in states],
        [],  # greatest second moments, of AMSGrad
        [steps[state["step"]] for state in states],
        lr=group["lr"],
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=group["weight_decay"],
        eps=eps,
        amsgrad=False,
        maximize=False,
    )
