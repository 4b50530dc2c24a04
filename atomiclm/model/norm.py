"""Normalisation of each token's features."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomiclm.model.rules import check_positive


class RMSNorm(nn.Module):
    """``y = x / sqrt(mean(x^2) + eps) * weight`` over the last dimension, computed in float32 or wider.

    Shapes: (..., dim) to (..., dim).

    Source: Zhang, Sennrich 2019, arXiv 1910.07467, equation 4; eps inside the root as in LLaMA (arXiv 2302.13971).
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive("eps", eps)
        self.dim = dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise (..., dim)."""
        return F.rms_norm(hidden, (self.dim,), self.weight, self.eps)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"dim={self.dim}, eps={self.eps}"


class LayerNorm(nn.Module):
    """``y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`` over the last dimension.

    Shapes: (..., dim) to (..., dim). The variance is the biased one (divided by dim).

    Source: Ba, Kiros, Hinton 2016, arXiv 1607.06450, equation 3; eps 1e-5 as in GPT-2.
    """

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        check_positive("eps", eps)
        self.dim = dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise (..., dim)."""
        return F.layer_norm(hidden, (self.dim,), self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"dim={self.dim}, eps={self.eps}, bias={self.bias is not None}"
