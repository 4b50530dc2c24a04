"""From the products of queries and keys to weights over keys."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from atomiclm.model.components import Component, check_positive
from atomiclm.roles import Role

EXPLICIT, SDPA, FLEX = "explicit", "sdpa", "flex"


class Scores(Component):
    """``weights(transform(scale * q k^T) + bias + mask)``: what stands between the products and the weighted mean.

    A new kind overrides ``transform``, ``weights`` or both, and runs in the explicit kernel. Fused kernels never see
    ``weights``: "sdpa" is for a softmax of the scaled products and nothing else; "flex" takes ``transform``, a softmax,
    and then ``share`` of it.

    scale     factor on the products; None is ``width^-0.5`` of a query (Vaswani et al. 2017, arXiv 1706.03762, 3.2.1)
    kernels   kernels (see ``attention_kernels``) that can compute it
    """

    kernels: ClassVar[Sequence[str]] = (EXPLICIT,)

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        check_positive(scale=scale)
        self.scale = scale

    def __init_subclass__(cls) -> None:
        """Do not inherit kernels that would not see what the class overrides."""
        super().__init_subclass__()
        if "kernels" not in vars(cls) and vars(cls).keys() & {"transform", "weights", "share"}:
            cls.kernels = (EXPLICIT,)

    def factor(self, width: int) -> float:
        """What products of queries and keys of that width are multiplied by."""
        return width**-0.5 if self.scale is None else self.scale

    def transform(self, products: Tensor) -> Tensor:
        """Scores of the scaled products, element by element: any shape to the same."""
        return products

    def weights(self, scores: Tensor) -> Tensor:
        """Weights over the last dimension of (batch, heads, queries, keys); scores of hidden keys are -inf."""
        return scores.softmax(-1)

    def share(self, log_sum: Tensor) -> Tensor | None:
        """Factor (batch, heads, queries) on a softmax's outcome by the log-sum-exp of its scores; None is one."""
        return None

    def saved_per_score(self) -> int:
        """Numbers that the explicit kernel saves for the backward pass for each query, head and key: the weights."""
        return 1


class Softmax(Scores):
    """``softmax(scale * q k^T)``, the usual (Vaswani et al. 2017, arXiv 1706.03762, equation 1)."""

    kernels = (SDPA, FLEX, EXPLICIT)


class CappedSoftmax(Scores):
    """``softmax(cap * tanh(scale * q k^T / cap))``: no score leaves (-cap, cap).

    Bias and mask are added after the cap. Source: Gemma 2, arXiv 2408.00118, section 2 (its cap is 50).
    """

    kernels = (FLEX, EXPLICIT)

    def __init__(self, cap: float, scale: float | None = None) -> None:
        super().__init__(scale)
        check_positive(cap=cap)
        self.cap = cap

    def transform(self, products: Tensor) -> Tensor:
        return self.cap * (products / self.cap).tanh()

    def saved_per_score(self) -> int:
        return 2


class SinkSoftmax(Scores):
    """``exp(s_j) / (exp(sink) + sum_k exp(s_k))`` with one learned sink a head: weights may add up to less than one.

    A head can look away without moving weight onto a token that it does not need. The sink starts at 0. Source: gpt-oss
    (arXiv 2508.10925); what it replaces was described by Xiao et al. 2023, arXiv 2309.17453.
    """

    kernels = (FLEX, EXPLICIT)
    # A logit, not a gain: it starts at zero.
    roles: ClassVar[dict[str, Role]] = {"sink": "bias"}

    def __init__(self, num_heads: int, scale: float | None = None) -> None:
        super().__init__(scale)
        self.num_heads = num_heads
        self.sink = nn.Parameter(torch.zeros(num_heads))

    def weights(self, scores: Tensor) -> Tensor:
        sink = self.sink.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
        return torch.cat([scores, sink], -1).softmax(-1)[..., :-1]

    def share(self, log_sum: Tensor) -> Tensor:
        """``sum_k exp(s_k) / (exp(sink) + sum_k exp(s_k))``, which is ``sigmoid(log_sum - sink)``."""
        return (log_sum - self.sink[:, None]).sigmoid()
