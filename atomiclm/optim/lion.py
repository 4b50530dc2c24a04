"""Lion: the sign of an interpolated momentum."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atomiclm.optim.base import HIDDEN_ROLES, RoleOptimizer, RoleSettings, check_betas


class Lion(RoleOptimizer):
    """Every entry of an update has the size of the learning rate; one moment is stored.

    For each parameter w with gradient g, learning rate a, decay d:

        u = sign(b1 m + (1 - b1) g)      w <- w - a (u + d w)      m <- b2 m + (1 - b2) g

    Source: Chen et al. (2023), arXiv:2302.06675, algorithm 2. The authors advise a learning rate 3 to 10 times smaller
    than AdamW's and a decay as much larger, so that their product stays.

    Args, beside those of `RoleOptimizer`:
        lr: peak learning rate a.
        betas: b1, how much of the update is momentum; b2, decay rate of the momentum.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        roles: Mapping[str, str],
        lr_multipliers: Mapping[str, float] | None = None,
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1.0,
        decayed_roles: Sequence[str] = HIDDEN_ROLES,
        lr_scales: dict[str, float] | None = None,
    ) -> None:
        check_betas("betas", betas)
        self.betas = betas
        settings = RoleSettings(lr, weight_decay, decayed_roles, lr_scales)
        super().__init__(named_parameters, roles, lr_multipliers, settings)

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"]
        beta1, beta2 = self.betas
        weight.mul_(1.0 - group["lr"] * group["weight_decay"])
        weight.add_(momentum.lerp(gradient, 1.0 - beta1).sign_(), alpha=-group["lr"])
        momentum.lerp_(gradient, 1.0 - beta2)

    @classmethod
    def state_elements(cls, shape: tuple[int, ...], role: str, settings: Mapping[str, Any]) -> int:
        """One momentum."""
        return math.prod(shape)
