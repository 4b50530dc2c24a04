"""How tokens are told where they stand: the interface, learned vectors, and nothing at all."""

from typing import Annotated

from torch import Tensor, nn

from atomiclm.model.mask import CausalMask
from atomiclm.model.rules import check_positive


class Position(nn.Module):
    """A position scheme may act in three places; each does nothing unless a class overrides it.

    embed      adds to the token embeddings
    rotate     turns queries and keys, with what ``rotation`` computed once for the pass
    bias       adds to the attention scores

    ``max_length`` is the number of positions the scheme has, None when it goes on for ever. ``of_layer`` lets one
    scheme stand for several (see ``pattern.PositionPattern``); a scheme that is the same everywhere is its own.

    ``score_scale`` is a factor on the scores before softmax that belongs to the scheme and not to what it rotates,
    1 but for YaRN as DeepSeek uses it. ``LatentAttention`` reads it: its keys have features that are never rotated.
    """

    max_length: Annotated[int | None, "Number of positions, None without end"] = None
    score_scale: Annotated[float, "Factor on the scores before softmax"] = 1.0

    def of_layer(self, layer: int) -> "Position":
        """The scheme that layer ``layer`` (from 0) uses."""
        return self

    def embed(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings (batch, time, dim), positions (time,) or (batch, time): the embeddings to go on with."""
        return hidden

    def rotation(self, positions: Tensor, length: int) -> Tensor | None:
        """Whatever ``rotate`` needs, for positions (time,) or (batch, time).

        ``length`` is the number of tokens the sequence may come to have: the model's context_length, or where that is
        more, the tokens of a pass without a cache or those the cache was made for. So a scheme whose angles depend on
        the length turns every key of a sequence alike, whenever it is cached and whatever is in the other rows.
        """
        return None

    def rotate(self, vectors: Tensor, rotation: Tensor | None) -> Tensor:
        """Queries or keys (batch, heads, time, head_dim): the turned ones, same shape and dtype."""
        return vectors

    def bias(self, mask: CausalMask) -> Tensor | None:
        """Added to the scores before softmax: broadcastable to (batch, heads, queries, keys), or None."""
        return None


class NoPosition(Position):
    """No positions at all: causality alone tells tokens apart.

    Source: Kazemnejad et al. 2023, arXiv 2305.19466 (NoPE).
    """

    def __init__(self) -> None:
        super().__init__()


class LearnedPosition(Position):
    """One trained vector for each position, added to the token embedding: ``h_t = embedding(x_t) + position(t)``.

    Source: Radford et al. 2019 (GPT-2), after Gehring et al. 2017, arXiv 1705.03122, section 3.1.
    There are context_length of them and no further ones, so longer inputs are refused.
    """

    def __init__(self, dim: int, context_length: int) -> None:
        super().__init__()
        check_positive("context_length", context_length)
        self.dim = dim
        self.context_length = context_length
        self.max_length = context_length
        self.embedding = nn.Embedding(context_length, dim)

    def embed(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Add the position's vector to each token embedding."""
        return hidden + self.embedding(positions)
