"""Multi-token prediction: modules that, in training only, also predict the tokens after the next."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from atomiclm.model.accounting import Accounted
from atomiclm.model.block import Block
from atomiclm.model.components import check_positive
from atomiclm.model.position import AttentionContext

Embedding = Callable[[Tensor], Tensor]
Contexts = Callable[[int], AttentionContext]


class Prediction(NamedTuple):
    """Features that the head scores, and what they are to predict.

    features   (batch, time, dim)
    targets    (batch, time) int64
    mask       (batch, time) bool, True where a target counts; None counts all
    weight     factor on the loss
    """

    features: Tensor
    targets: Tensor
    mask: Tensor | None
    weight: float


@dataclass(eq=False, repr=False)
class Lookahead(Accounted):
    """Predictions at depth 1 to ``depth``: at depth k the token k positions after the next one; in training only.

    Their loss is ``weight / depth * sum_k nats_k``, summed over the targets that count, added to that of the next token
    (arXiv 2412.19437, section 2.2). They share the decoder's embedding and head.

    Constructors take ``block``, a function of a layer's number that builds one of the decoder's blocks, and ``norm``, a
    function that builds one of its norms. The blocks here are layers num_layers, num_layers + 1, ... of the same
    pattern. They run on whole windows: the last k positions of depth k read tokens that wrap around, and are not
    scored.
    """

    num_layers: int
    block: InitVar[Callable[[int], Block]]
    norm: InitVar[Callable[[], nn.Module]]
    depth: int = 1
    weight: float = 1.0

    def __post_init__(self, block: Callable[[int], Block], norm: Callable[[], nn.Module]) -> None:
        super().__post_init__()
        check_positive(depth=self.depth, weight=self.weight)
        self.blocks = nn.ModuleList(block(self.num_layers + index) for index in range(self.depth))

    @property
    def layers(self) -> list[Block]:
        """The blocks, one for each depth."""
        return cast(list[Block], list(self.blocks))

    @abstractmethod
    def forward(self, hidden: Tensor, targets: Tensor, embedding: Embedding, contexts: Contexts) -> list[Tensor]:
        """Features for the head, (batch, time, dim) for each depth.

        hidden      (batch, time, dim): the decoder's features after its final norm
        targets     (batch, time) int64: the token that follows each position
        embedding   the decoder's token embedding
        contexts    what attention needs, for a layer's number
        """

    def predictions(
        self,
        hidden: Tensor,
        targets: Tensor,
        mask: Tensor | None,
        documents: Tensor | None,
        embedding: Embedding,
        contexts: Contexts,
    ) -> list[Prediction]:
        """What ``forward`` computes, with the targets of each depth; mask and documents as for an ``Objective``.

        A position counts when its later token is in the window, counts for the decoder itself, and is of the same
        document.
        """
        time = targets.shape[1]
        found = []
        for depth, features in enumerate(self(hidden, targets, embedding, contexts), start=1):
            inside = torch.arange(time, device=targets.device) < time - depth
            counted = inside.expand_as(targets)
            if mask is not None:
                counted = counted & mask.roll(-depth, 1)
            if documents is not None:
                counted = counted & (documents.roll(-depth, 1) == documents)
            found.append(Prediction(features, targets.roll(-depth, 1), counted, self.weight / self.depth))
        return found


@dataclass(eq=False, repr=False)
class SequentialPrediction(Lookahead):
    """One module a depth, each reading what the one before computed and the token that lies between.

    ``h_k = block_k(projection_k [norm(h_{k-1}); norm(embedding(token k ahead))])``, h_0 the decoder's features after
    the final norm; the head reads ``norm(h_k)``. Each norm is one of its own, of the decoder's kind.

    Source: DeepSeek-AI 2024 (DeepSeek-V3), arXiv 2412.19437, section 2.2: depth 1, weight 0.3, later 0.1.
    """

    dim: int = field(kw_only=True)
    weight: float = 0.3

    def __post_init__(self, block: Callable[[int], Block], norm: Callable[[], nn.Module]) -> None:
        super().__post_init__(block, norm)
        self.hidden_norms = nn.ModuleList(norm() for _ in range(self.depth))
        self.embedding_norms = nn.ModuleList(norm() for _ in range(self.depth))
        self.projections = nn.ModuleList(nn.Linear(2 * self.dim, self.dim, bias=False) for _ in range(self.depth))
        self.output_norms = nn.ModuleList(norm() for _ in range(self.depth))

    def forward(self, hidden: Tensor, targets: Tensor, embedding: Embedding, contexts: Contexts) -> list[Tensor]:
        features = []
        for index, block in enumerate(self.layers):
            read = embedding(targets.roll(-index, 1))
            both = torch.cat([self.hidden_norms[index](hidden), self.embedding_norms[index](read)], dim=-1)
            hidden = block(self.projections[index](both), contexts(self.num_layers + index))
            features.append(self.output_norms[index](hidden))
        return features

    def activation_elements_per_token(self, context_length: int) -> int:
        """Norms, the projections' inputs, blocks."""
        return super().activation_elements_per_token(context_length) - self.depth * self.dim


class ParallelPrediction(Lookahead):
    """One module a depth, all reading the decoder's features: ``h_k = block_k(h_0)``, the head reads ``norm(h_k)``.

    Source: Gloeckle et al. 2024, arXiv 2404.19737, section 2, where the next token has such a module too; here it has
    the decoder itself. The paper's losses are added with equal weight: ``weight = depth``.
    """

    def __post_init__(self, block: Callable[[int], Block], norm: Callable[[], nn.Module]) -> None:
        super().__post_init__(block, norm)
        self.output_norms = nn.ModuleList(norm() for _ in range(self.depth))

    def forward(self, hidden: Tensor, targets: Tensor, embedding: Embedding, contexts: Contexts) -> list[Tensor]:
        return [
            self.output_norms[index](block(hidden, contexts(self.num_layers + index)))
            for index, block in enumerate(self.layers)
        ]
