"""Muon: momentum whose matrices are made orthogonal before they are applied."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from atomiclm.machine import has_native_bfloat16
from atomiclm.optim.adamw import adamw_update
from atomiclm.optim.base import (
    HIDDEN_ROLES,
    RoleOptimizer,
    RoleSettings,
    check,
    check_betas,
    check_eps,
    check_rate,
    check_roles,
)
from atomiclm.roles import ROLES


class Muon(RoleOptimizer):
    """Muon for the hidden matrices, AdamW for the rest.

    For each matrix W (out, in) with gradient G, learning rate a, decay d, momentum u:

        B <- u B + (1 - u) G            N = u B + (1 - u) G  with nesterov, else  N = B
        W <- (1 - a d) W - a s O(N)     O = `orthogonalized`, five steps of a Newton-Schulz iteration

        s = sqrt(max(1, out / in))      adjust_lr = original
        s = 0.2 sqrt(max(out, in))      adjust_lr = match_rms_adamw: the root mean square of an update is about AdamW's,
                                        so that AdamW's learning rate and decay serve

    Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon; match_rms_adamw and the decay: Liu et al. (2025), arXiv:2502.16982.
    Equal to torch.optim.Muon step by step (tests/reference). An embedding, a head, a gain or a bias is no
    linear map between hidden features, and is left to AdamW at `adamw_lr`.

    Args, beside those of `RoleOptimizer`:
        lr: peak learning rate a of the orthogonalized matrices.
        momentum: u.
        nesterov: look ahead by one step of momentum.
        newton_schulz_steps: iterations of `orthogonalized`.
        newton_schulz_coefficients: of the odd quintic polynomial, (linear, cubic, quintic).
        eps: least norm a matrix is divided by before the iteration.
        adjust_lr: s above.
        orthogonalized_roles: roles that Muon takes; every parameter of theirs has two dimensions or more.
        adamw_lr: peak learning rate of the others; null = lr.
        adamw_betas: decay rates of their two moments.
        adamw_eps: added to the root of their second moment.

    Raises:
        ValueError: also for a vector in an orthogonalized role.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        roles: Mapping[str, str],
        lr_multipliers: Mapping[str, float] | None = None,
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        newton_schulz_steps: int = 5,
        newton_schulz_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        adjust_lr: Literal["original", "match_rms_adamw"] = "original",
        orthogonalized_roles: Sequence[str] = HIDDEN_ROLES,
        adamw_lr: float | None = None,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
        weight_decay: float = 0.1,
        decayed_roles: Sequence[str] = HIDDEN_ROLES,
        lr_scales: dict[str, float] | None = None,
    ) -> None:
        check("momentum", momentum, 0.0 <= momentum < 1.0, "must lie in [0, 1); the usual value is 0.95")
        check(
            "newton_schulz_steps",
            newton_schulz_steps,
            0 < newton_schulz_steps < 100,
            "is not between 1 and 99; 5 is usual, more gain nothing",
        )
        check(
            "newton_schulz_coefficients",
            newton_schulz_coefficients,
            len(newton_schulz_coefficients) == 3 and all(abs(each) < math.inf for each in newton_schulz_coefficients),
            "must be three numbers; usual values are [3.4445, -4.775, 2.0315]",
        )
        check_eps("eps", eps)
        if adjust_lr not in ("original", "match_rms_adamw"):
            raise ValueError(f"adjust_lr: {adjust_lr!r} is not one of: original, match_rms_adamw")
        check_roles("orthogonalized_roles", orthogonalized_roles)
        if adamw_lr is not None:
            check_rate("adamw_lr", adamw_lr)
        check_betas("adamw_betas", adamw_betas)
        check_eps("adamw_eps", adamw_eps)
        self.momentum = momentum
        self.nesterov = nesterov
        self.newton_schulz_steps = newton_schulz_steps
        self.newton_schulz_coefficients = newton_schulz_coefficients
        self.eps = eps
        self.adjust_lr = adjust_lr
        self.orthogonalized_roles = orthogonalized_roles
        self.adamw_lr = adamw_lr
        self.adamw_betas = adamw_betas
        self.adamw_eps = adamw_eps
        rest = [role for role in ROLES if role not in orthogonalized_roles]
        settings = RoleSettings(
            lr, weight_decay, decayed_roles, lr_scales, dict.fromkeys(rest, lr if adamw_lr is None else adamw_lr)
        )
        super().__init__(named_parameters, roles, lr_multipliers, settings)
        for group in self.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                if group["role"] in orthogonalized_roles and parameter.ndim < 2:
                    raise ValueError(
                        f"orthogonalized_roles: '{name}' has the role '{group['role']}' and one dimension, and only "
                        f"matrices can be made orthogonal; take '{group['role']}' out"
                    )

    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One step of AdamW, or of the momentum alone where the role is orthogonalized; `step` applies that."""
        if group["role"] not in self.orthogonalized_roles:
            lr, weight_decay = group["lr"], group["weight_decay"]
            adamw_update(weight, gradient, state, lr, weight_decay, self.adamw_betas, self.adamw_eps)
            return
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1.0 - self.momentum)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there; weights of one shape are made orthogonal in one batch."""
        super().step(closure)
        for members in self._of_one_shape():
            directions = torch.stack([self._direction(weight, gradient) for weight, gradient, _ in members])
            directions = orthogonalized(directions, self.newton_schulz_coefficients, self.newton_schulz_steps, self.eps)
            for (weight, _, group), direction in zip(members, directions, strict=True):
                weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                weight.add_(direction.to(weight.dtype), alpha=-group["lr"] * self._scale(*weight.shape[-2:]))

    def _of_one_shape(self) -> Iterable[list[tuple[Tensor, Tensor, dict[str, Any]]]]:
        """(weight, gradient, group) of the orthogonalized weights that have a gradient: a list for each shape."""
        members: dict[torch.Size, list[tuple[Tensor, Tensor, dict[str, Any]]]] = {}
        for group in self.param_groups:
            if group["role"] in self.orthogonalized_roles:
                for weight in group["params"]:
                    if weight.grad is not None:
                        members.setdefault(weight.shape, []).append((weight, weight.grad, group))
        return members.values()

    def _direction(self, weight: Tensor, gradient: Tensor) -> Tensor:
        momentum: Tensor = self.state[weight]["momentum"]
        return gradient.lerp(momentum, self.momentum) if self.nesterov else momentum

    def _scale(self, rows: int, columns: int) -> float:
        if self.adjust_lr == "match_rms_adamw":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))

    @classmethod
    def state_elements(cls, shape: tuple[int, ...], role: str, settings: Mapping[str, Any]) -> int:
        """One momentum for an orthogonalized matrix, two moments for the rest."""
        orthogonal = role in settings.get("orthogonalized_roles", HIDDEN_ROLES)
        return (1 if orthogonal else 2) * math.prod(shape)


def orthogonalized(matrices: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """Each matrix (..., rows, columns) with its singular values moved near 1 and its singular vectors as they are.

    X = G / max(|G|, eps), Frobenius norm; then `steps` times, with (a, b, c) the coefficients,

        A = X X^T         X <- a X + (b A + c A A) X

    which maps every singular value x to a x + b x^3 + c x^5. With the published coefficients five steps bring those
    above 0.003 to between 0.68 and 1.21 and need no decomposition (Jordan et al. 2024, see `Muon`). A tall matrix is
    transposed meanwhile, so that A is the small product. Such a target deserves no more precision than bfloat16 has, so
    that is what it is computed in where the device multiplies it natively, else in float32; a float64 matrix stays
    float64, for tests.
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
