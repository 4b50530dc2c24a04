"""One layer of the decoder: how attention and the feed-forward network are joined to the residual stream."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor, nn

from atomiclm.model.accounting import Accounted
from atomiclm.model.attention import Attention
from atomiclm.model.cache import LayerCache
from atomiclm.model.context import AttentionContext
from atomiclm.model.rules import check_dropout, check_positive


class Block(Accounted):
    """(batch, time, dim) to (batch, time, dim). The decoder finds the layer's attention in ``attention``.

    Constructors take ``attention``, ``feedforward`` and ``norm`` as functions of no argument that build a new module
    at each call (the decoder has put the sizes in already), so that two norms are two modules.

    Norms are attributes of these names, where the block has them: attention_norm and feedforward_norm (of a branch's
    input), attention_output_norm and feedforward_output_norm (of what a branch computed).
    """

    attention: Annotated[Attention, "The layer's attention"]
    feedforward: Annotated[Accounted, "The layer's feed-forward network"]

    @abstractmethod
    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Run the layer."""

    def flops_per_token(self, context_length: int) -> int:
        """Attention and the feed-forward network."""
        return self.attention.flops_per_token(context_length) + self.feedforward.flops_per_token(context_length)

    def activation_elements_per_token(self, context_length: int) -> int:
        """What norms, attention and the feed-forward network keep, their inputs included; masks of dropout are not."""
        return super().activation_elements_per_token(context_length)


class ResidualBlock(Block):
    """A block whose branches are added to the stream: ``x + scale * dropout(branch)``.

    residual_scale   the scale: 0.22 in Granite 3 (its residual_multiplier), 1 elsewhere
    scale_by_depth   divide it by sqrt(num_layers), so that the stream's growth does not depend on depth (Yang et al.
                     2023, arXiv 2310.02244; MiniCPM, Hu et al. 2024, arXiv 2404.06395, with residual_scale 1.4)
    dropout          acts on what is added, in training only
    """

    def __init__(self, residual_scale: float, scale_by_depth: bool, num_layers: int | None, dropout: float) -> None:
        super().__init__()
        check_positive("residual_scale", residual_scale)
        check_dropout("dropout", dropout)
        if scale_by_depth and num_layers is None:
            raise ValueError("scale_by_depth=True needs num_layers, the depth; give it, or scale_by_depth=False")
        self.residual_scale = residual_scale
        self.scale_by_depth = scale_by_depth
        self.num_layers = num_layers
        self.dropout = nn.Dropout(dropout)

    @property
    def branch_scale(self) -> float:
        """What each branch is multiplied by."""
        if not self.scale_by_depth:
            return self.residual_scale
        assert self.num_layers is not None, "checked when built"
        return self.residual_scale / math.sqrt(self.num_layers)

    def add(self, hidden: Tensor, *branches: Tensor) -> Tensor:
        """The stream with the branches added to it, each (batch, time, dim)."""
        for branch in branches:
            hidden = torch.add(hidden, self.dropout(branch), alpha=self.branch_scale)
        return hidden


class TransformerBlock(ResidualBlock):
    """Pre-norm residual block: ``h = x + attention(norm(x))``, then ``y = h + feedforward(norm(h))``.

    Source: Vaswani et al. 2017, arXiv 1706.03762, with the norms moved before the layers as in GPT-2 (Xiong et al.
    2020, arXiv 2002.04745, figure 1b). For residual_scale and scale_by_depth see ``ResidualBlock``.
    """

    def __init__(
        self,
        attention: Callable[[], Attention],
        feedforward: Callable[[], Accounted],
        norm: Callable[[], nn.Module],
        residual_scale: float = 1.0,
        scale_by_depth: bool = False,
        num_layers: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(residual_scale, scale_by_depth, num_layers, dropout)
        self.attention_norm = norm()
        self.attention = attention()
        self.feedforward_norm = norm()
        self.feedforward = feedforward()

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Run the layer on hidden (batch, time, dim)."""
        hidden = self.add(hidden, self.attention(self.attention_norm(hidden), context, cache))
        return self.add(hidden, self.feedforward(self.feedforward_norm(hidden)))
