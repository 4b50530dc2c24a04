"""The two ends of a decoder: from token ids to vectors, and from vectors to a score for every token."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomiclm.model.accounting import Accounted
from atomiclm.model.components import Component, check_choice, check_positive, supply_part
from atomiclm.roles import Role


class Embedding(Component, nn.Embedding):
    """``h = norm(scale * table[token])``: (batch, time) int64 to (batch, time, dim).

    scale   a factor on the vectors, or "sqrt_dim" for ``sqrt(dim)`` (Vaswani et al. 2017, arXiv 1706.03762, section
            3.4; Gemma, arXiv 2403.08295). The table of a tied head is not scaled by it
    norm    a norm of the vectors before the first block (BLOOM, arXiv 2211.05100, section 3.2); None is none
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        scale: float | Literal["sqrt_dim"] = 1.0,
        norm: Callable[..., nn.Module] | None = None,
    ) -> None:
        if isinstance(scale, str):
            check_choice(["sqrt_dim"], scale=scale)
        else:
            check_positive(scale=scale)
        super().__init__(vocab_size, dim)
        self.vocab_size = vocab_size
        self.dim = dim
        self.scale: float | Literal["sqrt_dim"] = scale
        self.norm = None if norm is None else supply_part("norm", norm, dim=dim)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = super().forward(tokens)
        factor = math.sqrt(self.dim) if self.scale == "sqrt_dim" else self.scale
        if factor != 1.0:
            vectors = vectors * factor
        return vectors if self.norm is None else self.norm(vectors)


class Head(Accounted):
    """``logits = scale * W hidden``: (..., dim) to (..., vocab_size), without bias.

    W is the token embedding itself when tied (Press, Wolf 2016, arXiv 1608.05859): the head has no parameter then.
    scale is 0.0625 in Command R (its logit_scale), ``1 / 8`` in Granite 3 2B (whose logits_scaling divides); an
    initialisation may multiply it (``MaximalUpdateInit``).
    """

    roles: ClassVar[dict[str, Role]] = {"weight": "head"}
    linear = staticmethod(F.linear)  # see `quick_products`

    def __init__(self, dim: int, vocab_size: int, tie_embeddings: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        check_positive(scale=scale)
        self.dim = dim
        self.vocab_size = vocab_size
        self.tie_embeddings = tie_embeddings
        self.scale = scale
        self.weight: nn.Parameter | None = None
        if not tie_embeddings:
            self.weight = nn.Parameter(nn.init.normal_(torch.empty(vocab_size, dim), std=dim**-0.5))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Score hidden (..., dim); ``embedding`` (vocab_size, dim) is used when tied."""
        # The features are scaled and not the scores, which are more.
        scaled = hidden if self.scale == 1.0 else hidden * self.scale
        return self.linear(scaled, embedding if self.weight is None else self.weight)

    def flops_per_token(self, context_length: int) -> int:
        return 2 * self.dim * self.vocab_size

    def activation_elements_per_token(self, context_length: int) -> int:
        """The input of the product; what the loss saves of the scores is the objective's."""
        return self.dim


class SoftcapHead(Head):
    """``logits = cap * tanh(scale * W hidden / cap)``: scores between -cap and cap, in float32 or wider.

    cap 30 in Gemma 2 (Gemma Team 2024, arXiv 2408.00118, section 2, after Bello et al. 2016, arXiv 1611.09940), 15 in
    nanochat.
    """

    def __init__(
        self, dim: int, vocab_size: int, tie_embeddings: bool = True, scale: float = 1.0, cap: float = 30.0
    ) -> None:
        super().__init__(dim, vocab_size, tie_embeddings, scale)
        check_positive(cap=cap)
        self.cap = cap

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        scores = super().forward(hidden, embedding)
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return self.cap * torch.tanh(wide / self.cap)

    def activation_elements_per_token(self, context_length: int) -> int:
        return self.dim + self.vocab_size
