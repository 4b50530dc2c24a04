"""One layer of the decoder: how attention and the feed-forward network are joined to the residual stream."""

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from atomiclm.model.accounting import Accounted
from atomiclm.model.attention import Attention
from atomiclm.model.cache import LayerCache
from atomiclm.model.context import AttentionContext
from atomiclm.model.rules import check_dropout


class Block(Accounted):
    """(batch, time, dim) to (batch, time, dim). The decoder finds the layer's attention in ``attention``.

    Constructors take ``attention``, ``feedforward`` and ``norm`` as functions of no argument that build a new module
    at each call (the decoder has put the sizes in already), so that two norms are two modules.
    """

    attention: Attention

    @abstractmethod
    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Run the layer."""


class TransformerBlock(Block):
    """Pre-norm residual block: ``h = x + attention(norm(x))``, then ``y = h + feedforward(norm(h))``.

    Source: Vaswani et al. 2017, arXiv 1706.03762, with the norms moved before the layers as in GPT-2 (Xiong et al.
    2020, arXiv 2002.04745, figure 1b). ``dropout`` acts on what is added to the residual stream, in training only.
    """

    def __init__(
        self,
        attention: Callable[[], Attention],
        feedforward: Callable[[], Accounted],
        norm: Callable[[], nn.Module],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_dropout("dropout", dropout)
        self.attention_norm = norm()
        self.attention = attention()
        self.feedforward_norm = norm()
        self.feedforward = feedforward()
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Run the layer on hidden (batch, time, dim)."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), context, cache))
        return hidden + self.dropout(self.feedforward(self.feedforward_norm(hidden)))

    def flops_per_token(self, context_length: int) -> int:
        """Attention and the feed-forward network."""
        return self.attention.flops_per_token(context_length) + self.feedforward.flops_per_token(context_length)
