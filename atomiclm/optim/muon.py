"""Muon: momentum whose matrices are made orthogonal before they are applied."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from atomiclm.machine import has_native_bfloat16
from atomiclm.optim.adamw import adamw_update
from atomiclm.optim.base import (
    HIDDEN_ROLES,
    Group,
    RoleOptimizer,
    State,
    check,
    check_betas,
    check_choice,
    check_eps,
    check_rate,
    check_roles,
)


@dataclass(eq=False, repr=False, kw_only=True)
class Muon(RoleOptimizer):
    """Muon for the hidden matrices, AdamW for the rest.

    For each matrix W (out, in) with gradient G, learning rate a, decay d, momentum u:

        B <- u B + (1 - u) G            N = u B + (1 - u) G  with nesterov, else  N = B
        W <- (1 - a d) W - a s O(N)     O = `orthogonalized`, five steps of a Newton-Schulz iteration

        s = sqrt(max(1, out / in))      adjust_lr = original
        s = 0.2 sqrt(max(out, in))      adjust_lr = match_rms_adamw: updates as large as AdamW's, for its lr and decay

    Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon; match_rms_adamw and the decay: Liu et al. (2025), arXiv:2502.16982. Equal
    to torch.optim.Muon step by step (tests/reference).

    Args, beside those of `RoleOptimizer`:
        lr: peak learning rate a of the orthogonalized matrices.
        momentum, nesterov: u; whether to look ahead by one step of it.
        newton_schulz_steps, newton_schulz_coefficients, eps: of `orthogonalized`.
        adjust_lr: s above.
        orthogonalized_roles: roles that Muon takes; ValueError where one has a vector.
        adamw_lr, adamw_betas, adamw_eps: of AdamW for the others; adamw_lr null = lr.
    """

    lr: float = 0.02
    momentum: float = 0.95
    nesterov: bool = True
    newton_schulz_steps: int = 5
    newton_schulz_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    eps: float = 1e-7
    adjust_lr: Literal["original", "match_rms_adamw"] = "original"
    orthogonalized_roles: Sequence[str] = HIDDEN_ROLES
    adamw_lr: float | None = None
    adamw_betas: tuple[float, float] = (0.9, 0.95)
    adamw_eps: float = 1e-8

    def check_settings(self) -> None:
        check("momentum", self.momentum, 0.0 <= self.momentum < 1.0, "must lie in [0, 1); the usual value is 0.95")
        steps, coefficients = self.newton_schulz_steps, self.newton_schulz_coefficients
        check("newton_schulz_steps", steps, 0 < steps < 100, "must be 1 to 99; 5 is usual, more gain nothing")
        sound = len(coefficients) == 3 and all(abs(each) < math.inf for each in coefficients)
        rule = "must be three numbers; usual values are [3.4445, -4.775, 2.0315]"
        check("newton_schulz_coefficients", coefficients, sound, rule)
        check_eps("eps", self.eps)
        check_choice("adjust_lr", self.adjust_lr, ("original", "match_rms_adamw"))
        check_roles("orthogonalized_roles", self.orthogonalized_roles)
        if self.adamw_lr is not None:
            check_rate("adamw_lr", self.adamw_lr)
        check_betas("adamw_betas", self.adamw_betas)
        check_eps("adamw_eps", self.adamw_eps)

    def peak_lr(self, role: str) -> float:
        return self.lr if self.adamw_lr is None or role in self.orthogonalized_roles else self.adamw_lr

    def add_param_group(self, param_group: Group) -> None:
        for name, parameter in zip(param_group["names"], param_group["params"], strict=True):
            rule = f"must be roles of matrices, which alone can be made orthogonal; '{name}' is a vector"
            sound = parameter.ndim >= 2 or param_group["role"] not in self.orthogonalized_roles
            check("orthogonalized_roles", list(self.orthogonalized_roles), sound, rule)
        super().add_param_group(param_group)

    def update(self, weights: list[Tensor], gradients: list[Tensor], states: list[State], group: Group) -> None:
        """One step of AdamW, or of the momentum alone where the role is orthogonalized; `step` applies that."""
        if group["role"] not in self.orthogonalized_roles:
            adamw_update(weights, gradients, states, group, self.adamw_betas, self.adamw_eps)
            return
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state["momentum"] = torch.zeros_like(weight)
        torch._foreach_lerp_([state["momentum"] for state in states], gradients, 1.0 - self.momentum)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there; weights of one shape are made orthogonal in one batch."""
        super().step(closure)
        of_one_shape: dict[torch.Size, list[tuple[Tensor, Tensor, State]]] = {}
        for group in self.param_groups:
            if group["role"] in self.orthogonalized_roles:
                for weight in group["params"]:
                    if weight.grad is not None:
                        momentum = self.state[weight]["momentum"]
                        direction = weight.grad.lerp(momentum, self.momentum) if self.nesterov else momentum
                        of_one_shape.setdefault(weight.shape, []).append((weight, direction, group))
        for (*_, rows, columns), members in of_one_shape.items():
            weights, unscaled, groups = zip(*members, strict=True)
            directions = torch.stack(unscaled)
            directions = orthogonalized(directions, self.newton_schulz_coefficients, self.newton_schulz_steps, self.eps)
            scale = math.sqrt(max(1.0, rows / columns))
            if self.adjust_lr == "match_rms_adamw":
                scale = 0.2 * math.sqrt(max(rows, columns))
            changes = directions.to(weights[0].dtype, copy=True).unbind()
            torch._foreach_mul_(changes, [-group["lr"] * scale for group in groups])
            torch._foreach_mul_(weights, [1.0 - group["lr"] * group["weight_decay"] for group in groups])
            torch._foreach_add_(weights, changes)

    @classmethod
    def state_elements(cls, shape: tuple[int, ...], role: str, settings: Mapping[str, Any]) -> int:
        one = role in settings.get("orthogonalized_roles", HIDDEN_ROLES)
        return (1 if one else 2) * math.prod(shape)


def orthogonalized(matrices: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """Each matrix (..., rows, columns) with its singular values moved near 1 and its singular vectors as they are.

    X = G / max(|G|, eps), Frobenius norm; then `steps` times, with (a, b, c) the coefficients,

        A = X X^T         X <- a X + (b A + c A A) X

    which maps every singular value x to a x + b x^3 + c x^5. With the published coefficients five steps bring those
    above 0.003 to between 0.68 and 1.21 (Jordan et al. 2024, see `Muon`). A tall matrix is transposed meanwhile, so
    that A is the small product. Computed in bfloat16 where the device multiplies that natively, else in float32;
    float64 stays, for tests.
    """
    work = matrices
    if matrices.dtype != torch.float64:
        work = matrices.to(torch.bfloat16 if has_native_bfloat16(matrices.device) else torch.float32)
    tall = work.shape[-2] > work.shape[-1]
    batch = work.reshape(-1, *work.shape[-2:])
    batch = batch.mT if tall else batch
    batch = batch / batch.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    linear, cubic, quintic = coefficients
    for _ in range(steps):
        gram = batch @ batch.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic)
        batch = torch.baddbmm(batch, polynomial, batch, beta=linear)
    return (batch.mT if tall else batch).reshape(matrices.shape)
