"""From final features to a score for every token of the vocabulary."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomiclm.model.accounting import Accounted
from atomiclm.model.roles import Role


class Head(Accounted):
    """``logits = W hidden``: (..., dim) to (..., vocab_size), without bias.

    W is the token embedding itself when tied (Press, Wolf 2016, arXiv 1608.05859): then the head has no parameter of
    its own, and there is one tensor with one name. FLOPs a token: ``2 dim vocab_size`` either way.
    """

    roles: ClassVar[dict[str, Role]] = {"weight": "head"}

    def __init__(self, dim: int, vocab_size: int, tie_embeddings: bool = True) -> None:
        super().__init__()
        self.dim = dim
        self.vocab_size = vocab_size
        self.weight: nn.Parameter | None = None
        if not tie_embeddings:
            self.weight = nn.Parameter(nn.init.normal_(torch.empty(vocab_size, dim), std=dim**-0.5))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Score hidden (..., dim); ``embedding`` (vocab_size, dim) is used when tied."""
        return F.linear(hidden, embedding if self.weight is None else self.weight)

    def flops_per_token(self, context_length: int) -> int:
        """One product with the vocabulary matrix."""
        return 2 * self.dim * self.vocab_size

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"dim={self.dim}, vocab_size={self.vocab_size}, tied={self.weight is None}"
