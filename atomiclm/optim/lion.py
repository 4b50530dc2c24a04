"""Lion: the sign of an interpolated momentum."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atomiclm.optim.base import Group, RoleOptimizer, State, check_betas


@dataclass(eq=False, repr=False, kw_only=True)
class Lion(RoleOptimizer):
    """Every entry of an update has the size of the learning rate; one moment is stored.

    For each parameter w with gradient g, learning rate a, decay d, betas (b1, b2):

        u = sign(b1 m + (1 - b1) g)      w <- w - a (u + d w)      m <- b2 m + (1 - b2) g

    Source: Chen et al. (2023), arXiv:2302.06675, algorithm 2. The authors advise a learning rate 3 to 10 times smaller
    than AdamW's and a decay as much larger, so that their product stays.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1.0

    num_moments = 1
    elementwise = True

    def check_settings(self) -> None:
        check_betas("betas", self.betas)

    def update(self, weights: list[Tensor], gradients: list[Tensor], states: list[State], group: Group) -> None:
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state["momentum"] = torch.zeros_like(weight)
        momenta = [state["momentum"] for state in states]
        beta1, beta2 = self.betas
        changes = torch._foreach_lerp(momenta, gradients, 1.0 - beta1)
        torch._foreach_sign_(changes)
        torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, changes, alpha=-group["lr"])
        torch._foreach_lerp_(momenta, gradients, 1.0 - beta2)
