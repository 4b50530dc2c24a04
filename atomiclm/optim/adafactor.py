"""Adafactor: Adam's second moment stored as row and column means, and no first moment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atomiclm.optim.base import Group, RoleOptimizer, State, check_eps, check_positive


@dataclass(eq=False, repr=False, kw_only=True)
class Adafactor(RoleOptimizer):
    """Memory of rows + columns for a matrix instead of twice rows x columns.

    For each matrix W (n, m) with gradient G at step t (from 1), learning rate a, decay d, b = 1 - t^-decay_exponent:

        R <- b R + (1 - b) mean over columns of (G^2 + eps)     C the same over rows     V = R C^T / mean(R)
        U = G / sqrt(V)        U <- U / max(1, rms(U) / clip_threshold)
        W <- (1 - a d) W - a max(least_scale, rms(W)) U

    A vector stores V whole. Without `scale_by_weight` the last line has no max(least_scale, rms(W)).

    Source: Shazeer and Stern (2018), arXiv:1804.04235, algorithms 4 to 6, with the schedule's learning rate for the
    relative step size min(lr, 1 / sqrt(t)) (schedule=inverse_square_root falls as theirs). Equal to
    torch.optim.Adafactor step by step while its min takes the lr (tests/reference).
    """

    lr: float = 1e-2
    decay_exponent: float = 0.8
    eps: float = 1e-30
    least_scale: float = 1e-3
    clip_threshold: float = 1.0
    scale_by_weight: bool = True
    weight_decay: float = 0.0

    def check_settings(self) -> None:
        check_positive("decay_exponent", self.decay_exponent, "0.8")
        check_eps("eps", self.eps)
        check_positive("least_scale", self.least_scale, "1e-3")
        check_positive("clip_threshold", self.clip_threshold, "1")

    def update(self, weights: list[Tensor], gradients: list[Tensor], states: list[State], group: Group) -> None:
        changes = [self._change(*each) for each in zip(weights, gradients, states, strict=True)]
        torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, changes, alpha=-group["lr"])

    def _change(self, weight: Tensor, gradient: Tensor, state: State) -> Tensor:
        """U, with the size of the weight in it. Roots are taken of the means, which are fewer than V."""
        if not state:
            state["step"] = 0
            if weight.ndim < 2:
                state["second_moment"] = torch.zeros_like(weight)
            else:
                state["row_moment"] = torch.zeros_like(weight[..., :1])
                state["column_moment"] = torch.zeros_like(weight[..., :1, :])
        state["step"] += 1
        share = state["step"] ** -self.decay_exponent
        squared = gradient.square().add_(self.eps)
        if weight.ndim < 2:
            second = state["second_moment"].lerp_(squared, share)
            change: Tensor = gradient * second.rsqrt()
        else:
            rows = state["row_moment"].lerp_(squared.mean(dim=-1, keepdim=True), share)
            columns = state["column_moment"].lerp_(squared.mean(dim=-2, keepdim=True), share)
            change = (gradient * (rows / rows.mean(dim=-2, keepdim=True)).rsqrt()).mul_(columns.rsqrt())
        scale = (_root_mean_square(change) / self.clip_threshold).clamp(min=1.0).reciprocal()
        if self.scale_by_weight:
            scale *= _root_mean_square(weight).clamp(min=self.least_scale)
        return change.mul_(scale)

    @classmethod
    def state_elements(cls, shape: tuple[int, ...], role: str, settings: Mapping[str, Any]) -> int:
        if len(shape) < 2:
            return math.prod(shape)
        return math.prod(shape[:-2]) * (shape[-2] + shape[-1])


def _root_mean_square(tensor: Tensor) -> Tensor:
    """Of each matrix, or of a vector; the dimensions stay."""
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=(-2, -1) if tensor.ndim >= 2 else -1, keepdim=True)
    return norms.mul_(math.sqrt(norms.numel() / tensor.numel()))
