"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomiclm.optim.adamw import adamw_update
from atomiclm.optim.base import Group, RoleOptimizer, State, check_betas, check_eps, check_positive

_SIDES = {"left": -2, "right": -1}
"""What is rotated, the rows or the columns, and the dimension that counts them."""

type _Member = tuple[Tensor, Tensor, State]
"""A weight, its gradient and its state."""


@dataclass(eq=False, repr=False, kw_only=True)
class SOAP(RoleOptimizer):
    """Adam on gradients rotated into slowly changing eigenbases, one for the rows and one for the columns.

    For each matrix W (m, n) with gradient G at step t, learning rate a, decay d, bases P (m, m) and Q (n, n):

        M <- b1 M + (1 - b1) G              V <- b2 V + (1 - b2) (P^T G Q)^2
        N = (P^T M Q / (1 - b1^t)) / (sqrt(V / (1 - b2^t)) + eps)
        W <- (1 - a d) W - a P N Q^T
        L <- b2 L + (1 - b2) G G^T          R <- b2 R + (1 - b2) G^T G
        every `refresh_every_steps` steps:  P <- qr(L P), Q <- qr(R Q), one step of power iteration each

    Source: Vyas et al. (2024), arXiv:2409.11321, algorithms 3 and 4. As in the authors' code, and not in the paper's
    listing: the first gradient only sets up L, R and their eigenbases and moves nothing; before a power iteration the
    columns of a basis are put in the order of falling eigenvalues, and the entries of V with them; a side longer than
    `largest_side` keeps the identity as its basis (which costs its square in memory). A vector, and a matrix with two
    such sides, gets plain AdamW.
    """

    lr: float = 3e-3
    betas: tuple[float, float] = (0.95, 0.95)
    eps: float = 1e-8
    refresh_every_steps: int = 10
    largest_side: int = 10_000

    def check_settings(self) -> None:
        check_betas("betas", self.betas)
        check_eps("eps", self.eps)
        check_positive("refresh_every_steps", self.refresh_every_steps, "10")
        check_positive("largest_side", self.largest_side, "10000")

    def update(self, weights: list[Tensor], gradients: list[Tensor], states: list[State], group: Group) -> None:
        plain: list[_Member] = []
        alike: dict[tuple[torch.Size, int], list[_Member]] = {}
        for member in zip(weights, gradients, states, strict=True):
            weight, _, state = member
            if not _rotated_sides(weight.shape, self.largest_side):
                plain.append(member)
            elif state:
                alike.setdefault((weight.shape, state["step"]), []).append(member)
            else:
                self._begin(*member)
        if plain:
            weights, gradients, states = map(list, zip(*plain, strict=True))
            adamw_update(weights, gradients, states, group, self.betas, self.eps)
        for members in alike.values():
            weights, gradients, states = map(list, zip(*members, strict=True))
            self._move(weights, torch.stack(gradients), states, group)

    def _move(self, weights: list[Tensor], gradient: Tensor, states: list[State], group: Group) -> None:
        """Weights of one shape that have taken as many steps, in one batch: its products are of all of them."""
        step, (beta1, beta2) = states[0]["step"] + 1, self.betas
        tensors = [key for key, value in states[0].items() if isinstance(value, Tensor)]
        batch = {key: torch.stack([state[key] for state in states]) for key in tensors}
        first, second = batch["first_moment"], batch["second_moment"]
        rotated = _rotate(gradient, batch)
        first.lerp_(gradient, 1.0 - beta1)
        second.mul_(beta2).addcmul_(rotated, rotated, value=1.0 - beta2)
        denominator = second.sqrt().div_((1.0 - beta2**step) ** 0.5).add_(self.eps)
        changes = _rotate(_rotate(first, batch) / denominator, batch, back=True)
        torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, changes.unbind(), alpha=-group["lr"] / (1.0 - beta1**step))
        self._gather(gradient, batch)
        if step % self.refresh_every_steps == 0:
            _refresh(batch)
        for key in tensors:
            torch._foreach_copy_([state[key] for state in states], batch[key].unbind())
        for state in states:
            state["step"] = step

    def _begin(self, weight: Tensor, gradient: Tensor, state: State) -> None:
        state["step"] = 0
        state["first_moment"] = torch.zeros_like(weight)
        state["second_moment"] = torch.zeros_like(weight)
        for side in _rotated_sides(weight.shape, self.largest_side):
            length = weight.shape[_SIDES[side]]
            state[side] = weight.new_zeros(*weight.shape[:-2], length, length)
        self._gather(gradient, state)
        for side in _rotated_sides(weight.shape, self.largest_side):
            # eigh sorts eigenvalues upwards.
            state[f"{side}_basis"] = torch.linalg.eigh(state[side]).eigenvectors.flip(-1).contiguous()

    def _gather(self, gradient: Tensor, state: State) -> None:
        share = 1.0 - self.betas[1]
        if "left" in state:
            state["left"].lerp_(gradient @ gradient.mT, share)
        if "right" in state:
            state["right"].lerp_(gradient.mT @ gradient, share)

    @classmethod
    def state_elements(cls, shape: tuple[int, ...], role: str, settings: Mapping[str, Any]) -> int:
        sides = _rotated_sides(shape, settings.get("largest_side", 10_000))
        squares = sum(shape[_SIDES[side]] ** 2 for side in sides)
        return 2 * math.prod(shape) + 2 * math.prod(shape[:-2]) * squares


def _rotated_sides(shape: Sequence[int], largest_side: int) -> tuple[str, ...]:
    return tuple(side for side, dim in _SIDES.items() if len(shape) >= 2 and shape[dim] <= largest_side)


def _rotate(matrix: Tensor, state: State, back: bool = False) -> Tensor:
    """P^T matrix Q, or back: P matrix Q^T; the identity for a side without a basis."""
    if "left" in state:
        matrix = (state["left_basis"] if back else state["left_basis"].mT) @ matrix
    if "right" in state:
        matrix = matrix @ (state["right_basis"].mT if back else state["right_basis"])
    return matrix


def _refresh(state: State) -> None:
    """One step of power iteration from each basis, columns first put in the order of falling eigenvalues."""
    second = state["second_moment"]
    for side, dim in _SIDES.items():
        if side not in state:
            continue
        basis = state[f"{side}_basis"]
        product = state[side] @ basis
        order = (basis * product).sum(dim=-2).argsort(dim=-1, descending=True)
        index = order.unsqueeze(-1 if side == "left" else -2)
        second = second.take_along_dim(index, dim=dim)
        state[f"{side}_basis"] = torch.linalg.qr(product.take_along_dim(order.unsqueeze(-2), dim=-1)).Q.contiguous()
    state["second_moment"] = second
