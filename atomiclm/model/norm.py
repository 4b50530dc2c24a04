"""Normalisation of each token's features, and of queries and keys."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from atomiclm.model.accounting import Accounted
from atomiclm.model.components import Component, check_positive


class Norm(Accounted):
    """(..., dim) to (..., dim), each token by itself.

    One with parameters that is given narrower numbers (a branch's output under autocast) computes in their dtype.
    """

    @abstractmethod
    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise (..., dim)."""


class RMSNorm(Norm):
    """``y = x / sqrt(mean(x^2) + eps) * weight`` over the last dimension; no weight with gain=False, as in nanochat.

    Source: Zhang, Sennrich 2019, arXiv 1910.07467, equation 4; eps inside the root as in LLaMA (arXiv 2302.13971).
    """

    def __init__(self, dim: int, eps: float = 1e-6, gain: bool = True) -> None:
        super().__init__()
        check_positive(eps=eps)
        self.dim = dim
        self.eps = eps
        self.gain = gain
        self.weight = nn.Parameter(torch.ones(dim)) if gain else None

    def forward(self, hidden: Tensor) -> Tensor:
        return rms_norm(hidden, self.weight, self.eps)

    def activation_elements_per_token(self, context_length: int) -> int:
        """The input and the root."""
        return self.dim + 1


class OffsetRMSNorm(RMSNorm):
    """``y = x / sqrt(mean(x^2) + eps) * (1 + weight)``, the weight starting at 0, where weight decay draws it.

    Source: Gemma Team 2024, arXiv 2403.08295, and its reference code.
    """

    weight: nn.Parameter

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps, gain=True)
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, hidden: Tensor) -> Tensor:
        return rms_norm(hidden, 1 + self.weight, self.eps)


class LayerNorm(Norm):
    """``y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`` over the last dimension, var divided by dim.

    gain=False with bias=False is the norm of OLMo (Groeneveld et al. 2024, arXiv 2402.00838). Source: Ba, Kiros, Hinton
    2016, arXiv 1607.06450, equation 3; eps 1e-5 as in GPT-2.
    """

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True, gain: bool = True) -> None:
        super().__init__()
        check_positive(eps=eps)
        self.dim = dim
        self.eps = eps
        self.gain = gain
        self.weight = nn.Parameter(torch.ones(dim)) if gain else None
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = _widened(hidden, self.bias if self.weight is None else self.weight)
        return F.layer_norm(hidden, (self.dim,), self.weight, self.bias, self.eps)

    def activation_elements_per_token(self, context_length: int) -> int:
        return self.dim + 2


class NoNorm(Norm):
    """``y = x``: in the place of a norm, does nothing."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden


def rms_norm(vectors: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * gain`` over the last dimension, in the wider of the two dtypes."""
    if gain is not None and gain.dtype != vectors.dtype:
        vectors = _widened(vectors, gain)
    is_plain = vectors.device.type == "cpu" and vectors.dtype.itemsize >= 4 and not torch.compiler.is_compiling()
    if gain is not None and is_plain and torch.is_grad_enabled():
        normed: Tensor = _RMSNormOnCPU.apply(vectors, gain, eps)
        return normed
    return F.rms_norm(vectors, vectors.shape[-1:], gain, eps)


class _RMSNormOnCPU(torch.autograd.Function):
    """``F.rms_norm``, bit for bit, with its gradient in few passes: torch's takes it through each of its steps.

    With ``n = x / root``, ``d gain = sum(g n)`` and ``d x = (g gain - n mean(g gain n)) / root`` (equation 4 of Zhang,
    Sennrich 2019, differentiated).
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, gain: Tensor, eps: float) -> Tensor:
        inverse = vectors.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(vectors, gain, inverse)
        return (vectors * inverse).mul_(gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        vectors, gain, inverse = ctx.saved_tensors
        normed = vectors * inverse
        of_gains = (gradient * normed).flatten(0, -2)
        means = (of_gains @ gain).div_(-gain.numel()).view_as(inverse)
        return normed.mul_(means).addcmul_(gradient, gain).mul_(inverse), of_gains.sum(0), None


def _widened(hidden: Tensor, parameter: Tensor | None) -> Tensor:
    """In the dtype of the parameter it meets, if that is wider: torch's fused kernels want one dtype."""
    return hidden if parameter is None else hidden.to(torch.promote_types(parameter.dtype, hidden.dtype))


class QueryKeyNorm(Component):
    """Queries (batch, num_heads, time, head_dim) and keys (batch, num_kv_heads, time, head_dim) to the same, dtype and
    all.

    after_rotation says whether it acts after the position scheme has rotated them. Constructors are offered num_heads,
    num_kv_heads, head_dim and dim by name.
    """

    after_rotation: ClassVar[bool] = False

    @abstractmethod
    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise both; each stays in its dtype."""

    @abstractmethod
    def saved_per_token(self, num_heads: int, num_kv_heads: int, head_dim: int) -> int:
        """Numbers that autograd saves for one token, beyond the queries and keys that come out."""


class HeadNorm(QueryKeyNorm):
    """``x / sqrt(mean(x^2) + eps) * gain`` in each head, before the rotation; query heads share a gain, key heads
    another.

    Source: Henry et al. 2020, arXiv 2010.04245 (with an L2 norm and a learned temperature); in this form Qwen3, arXiv
    2505.09388.
    """

    def __init__(self, head_dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive(eps=eps)
        self.head_dim = head_dim
        self.eps = eps
        self.query = nn.Parameter(torch.ones(head_dim))
        self.key = nn.Parameter(torch.ones(head_dim))

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return _rms_by_head(query, self.query, self.eps), _rms_by_head(key, self.key, self.eps)

    def saved_per_token(self, num_heads: int, num_kv_heads: int, head_dim: int) -> int:
        return (num_heads + num_kv_heads) * (head_dim + 1)


class WidthNorm(QueryKeyNorm):
    """``x / sqrt(mean(x^2) + eps) * gain`` over all heads together, before the rotation (OLMo 2, arXiv 2501.00656)."""

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive(eps=eps)
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.eps = eps
        self.query = nn.Parameter(torch.ones(num_heads * head_dim))
        self.key = nn.Parameter(torch.ones(num_kv_heads * head_dim))

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return self._across(query, self.query), self._across(key, self.key)

    def _across(self, vectors: Tensor, gain: Tensor) -> Tensor:
        normed = rms_norm(vectors.transpose(1, 2).flatten(2), gain, self.eps).to(vectors.dtype)
        return normed.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def saved_per_token(self, num_heads: int, num_kv_heads: int, head_dim: int) -> int:
        return (num_heads + num_kv_heads) * head_dim + 2


class PlainHeadNorm(QueryKeyNorm):
    """``x / sqrt(mean(x^2) + eps)`` in each head, with nothing to learn, after the rotation (which leaves the mean
    square).

    Source: nanochat (Karpathy 2025, github.com/karpathy/nanochat).
    """

    after_rotation = True

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive(eps=eps)
        self.eps = eps

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return _rms_by_head(query, None, self.eps), _rms_by_head(key, None, self.eps)

    def saved_per_token(self, num_heads: int, num_kv_heads: int, head_dim: int) -> int:
        return (num_heads + num_kv_heads) * (head_dim + 1)


def _rms_by_head(vectors: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """Over the last dimension of (batch, heads, time, head_dim)."""
    # As the projections lay them out, (batch, time, heads, head_dim): so is then what attention makes of them, and its
    # output projection need not copy it.
    return rms_norm(vectors.transpose(1, 2), gain, eps).to(vectors.dtype).transpose(1, 2)
