"""One layer of the decoder: how attention and the feed-forward network are joined to the residual stream."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from atomiclm.model.accounting import Accounted
from atomiclm.model.attention import Attention
from atomiclm.model.cache import LayerCache
from atomiclm.model.components import check_dropout, check_positive
from atomiclm.model.position import AttentionContext


class Block(Accounted):
    """(batch, time, dim) to (batch, time, dim). The decoder finds the layer's attention in ``attention``.

    Constructors take ``attention``, ``feedforward`` and ``norm`` as functions of no argument that build a new module at
    each call. Norms, where there are any, are attention_norm and feedforward_norm (of a branch's input),
    attention_output_norm and feedforward_output_norm (of what a branch computed).
    """

    attention: Annotated[Attention, "The layer's attention"]
    feedforward: Annotated[Accounted, "The layer's feed-forward network"]

    @abstractmethod
    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Run the layer."""


class ResidualBlock(Block):
    """A block whose branches are added to the stream: ``x + scale * dropout(branch)``.

    A subclass sets ``parts``, its submodules in the order of their parameters, and defines ``forward``.

    residual_scale   the scale: 0.22 in Granite 3 (its residual_multiplier), 1 elsewhere
    scale_by_depth   divide it by sqrt(num_layers) (Yang et al. 2023, arXiv 2310.02244; MiniCPM, Hu et al. 2024, arXiv
                     2404.06395, with residual_scale 1.4)
    dropout          acts on what is added, in training only
    """

    parts: tuple[str, ...] = ("attention_norm", "attention", "feedforward_norm", "feedforward")
    attention_norm: nn.Module
    attention_output_norm: nn.Module
    feedforward_norm: Any  # a module, or None where one norm serves both branches
    feedforward_output_norm: nn.Module

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
        super().__init__()
        check_positive(residual_scale=residual_scale)
        check_dropout(dropout)
        if scale_by_depth and num_layers is None:
            raise ValueError("scale_by_depth=True needs num_layers, the depth; give it, or scale_by_depth=False")
        self.residual_scale = residual_scale
        self.scale_by_depth = scale_by_depth
        self.num_layers = num_layers
        self.branch_scale = residual_scale / math.sqrt(num_layers) if scale_by_depth and num_layers else residual_scale
        self.dropout = nn.Dropout(dropout)
        builders = {"attention": attention, "feedforward": feedforward}
        for part in self.parts:
            setattr(self, part, builders.get(part, norm)())

    def add(self, hidden: Tensor, *branches: Tensor) -> Tensor:
        for branch in branches:
            hidden = torch.add(hidden, self.dropout(branch), alpha=self.branch_scale)
        return hidden


class TransformerBlock(ResidualBlock):
    """Pre-norm residual block: ``h = x + attention(norm(x))``, then ``y = h + feedforward(norm(h))``.

    Source: Vaswani et al. 2017, arXiv 1706.03762, with the norms first as in GPT-2 (Xiong et al. 2020, arXiv
    2002.04745, figure 1b).
    """

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        hidden = self.add(hidden, self.attention(self.attention_norm(hidden), context, cache))
        return self.add(hidden, self.feedforward(self.feedforward_norm(hidden)))


class ParallelBlock(ResidualBlock):
    """``y = x + attention(norm_1(x)) + feedforward(norm_2(x))``: both branches read the stream as it enters.

    shared_norm   True: one norm for both, attention_norm, as in GPT-J (Wang, Komatsuzaki 2021), PaLM (arXiv 2204.02311)
                  and Command R; feedforward_norm is None. False: a norm each, as in GPT-NeoX (Black et al. 2022, arXiv
                  2204.06745) and Pythia
    """

    def __init__(
        self,
        dim: int,
        attention: Callable[[], Attention],
        feedforward: Callable[[], Accounted],
        norm: Callable[[], nn.Module],
        shared_norm: bool = True,
        residual_scale: float = 1.0,
        scale_by_depth: bool = False,
        num_layers: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        if shared_norm:
            self.parts = ("attention_norm", "attention", "feedforward")
        super().__init__(attention, feedforward, norm, residual_scale, scale_by_depth, num_layers, dropout)
        if shared_norm:
            self.feedforward_norm = None
        self.dim = dim
        self.shared_norm = shared_norm

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        normed = self.attention_norm(hidden)
        mixed = self.attention(normed, context, cache)
        changed = self.feedforward(normed if self.feedforward_norm is None else self.feedforward_norm(hidden))
        return self.add(hidden, mixed, changed)

    def activation_elements_per_token(self, context_length: int) -> int:
        """What the parts save; one tensor that two of them read (the norm's output, or both norms' input) is one."""
        return super().activation_elements_per_token(context_length) - self.dim


class PostNormBlock(ResidualBlock):
    """``h = norm(x + attention(x))``, then ``y = norm(h + feedforward(h))``: the norm is on the stream.

    The stream leaves the last block normalised, so ``final_norm=NoNorm`` goes with it. Training wants a warmup and a
    smaller learning rate than pre-norm (Xiong et al. 2020, arXiv 2002.04745). Source: Vaswani et al. 2017, arXiv
    1706.03762, section 3.1.
    """

    parts = ("attention", "attention_norm", "feedforward", "feedforward_norm")

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        hidden = self.attention_norm(self.add(hidden, self.attention(hidden, context, cache)))
        return self.feedforward_norm(self.add(hidden, self.feedforward(hidden)))


class ReorderedNormBlock(ResidualBlock):
    """``h = x + norm(attention(x))``, then ``y = h + norm(feedforward(h))``: the stream itself is never normalised.

    Source: Liu et al. 2021 (Swin V2, "res-post-norm"), arXiv 2111.09883; OLMo 2 (OLMo Team 2024, arXiv 2501.00656).
    """

    parts = ("attention", "attention_output_norm", "feedforward", "feedforward_output_norm")

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        hidden = self.add(hidden, self.attention_output_norm(self.attention(hidden, context, cache)))
        return self.add(hidden, self.feedforward_output_norm(self.feedforward(hidden)))


class SandwichNormBlock(ResidualBlock):
    """``h = x + norm(attention(norm(x)))``, then ``y = h + norm(feedforward(norm(h)))``: four norms a layer.

    Source: Ding et al. 2021 (CogView), arXiv 2105.13290; Gemma 2 (arXiv 2408.00118); Kim et al. 2025, arXiv 2502.02732.
    """

    parts = (
        "attention_norm",
        "attention",
        "attention_output_norm",
        "feedforward_norm",
        "feedforward",
        "feedforward_output_norm",
    )

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        mixed = self.attention(self.attention_norm(hidden), context, cache)
        hidden = self.add(hidden, self.attention_output_norm(mixed))
        changed = self.feedforward(self.feedforward_norm(hidden))
        return self.add(hidden, self.feedforward_output_norm(changed))
