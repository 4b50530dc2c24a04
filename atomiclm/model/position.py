"""How tokens get their positions: the interface, what it gives to the layers of a pass, and the simple schemes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn

from atomiclm.model.attention_mask import CausalMask, Visible
from atomiclm.model.cache import LayerCache
from atomiclm.model.components import Component, check_pattern, check_positive, name_of_layer, supply_part


class Position(Component):
    """A position scheme may act in three ways; each does nothing unless a class overrides it.

    embed      adds to the token embeddings
    rotate     rotates queries and keys, with what ``rotation`` computed once for the pass
    bias       adds to the attention scores

    ``score_scale`` is 1 but for YaRN as DeepSeek uses it, where ``LatentAttention`` reads it: its keys have features
    that are never rotated.
    """

    max_length: Annotated[int | None, "Number of positions, None without end"] = None
    score_scale: Annotated[float, "Factor on the scores before softmax"] = 1.0

    def of_layer(self, layer: int) -> "Position":
        """The scheme of layer ``layer`` (from 0): this one, unless it stands for several (``PositionPattern``)."""
        return self

    def embed(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings (batch, time, dim), positions (time,) or (batch, time): the embeddings to go on with."""
        return hidden

    def rotation(self, positions: Tensor, length: int) -> Tensor | None:
        """Whatever ``rotate`` needs, for positions (time,) or (batch, time).

        ``length`` is the number of tokens the sequence may come to have: the model's context_length, or where that is
        more, the tokens of a pass without a cache or those the cache was made for. So a scheme whose angles depend on
        it rotates every key of a sequence alike.
        """
        return None

    def rotate(self, vectors: Tensor, rotation: Tensor | None) -> Tensor:
        """Queries or keys (batch, heads, time, head_dim): the rotated ones, same shape and dtype."""
        return vectors

    def bias(self, mask: CausalMask) -> Tensor | None:
        """Added to the scores before softmax: broadcastable to (batch, heads, queries, keys), or None."""
        return None


@dataclass(frozen=True, eq=False)
class AttentionContext:
    """Positions, rotations and visibility of the tokens in one forward pass, computed once before the first layer.

    mask        which keys a query sees, before any window
    position    the position scheme of the layers that share this context
    positions   (time,) or (batch, time) int64: position of each token in its document, from 0
    rotation, bias   what the methods of ``position`` returned
    """

    mask: CausalMask
    position: Position
    positions: Tensor
    rotation: Tensor | None
    bias: Tensor | None
    _seen: dict[tuple[int | None, bool], Visible] = field(default_factory=dict, repr=False)

    @classmethod
    def build(cls, position: Position, mask: CausalMask, length: int | None = None) -> "AttentionContext":
        """Compute what the layers need. ``length`` is that of the whole sequence, see ``Position.rotation``.

        A token's position is the number of earlier tokens in its document, whatever is packed or padded before it in
        the row.
        """
        if mask.documents is None:
            positions = torch.arange(mask.offset, mask.num_keys, device=mask.device)
        else:
            positions = _positions_in(mask.documents)[:, mask.offset :]
        rotation = position.rotation(positions, length or mask.num_keys)
        return cls(mask, position, positions, rotation, position.bias(mask))

    def rotate(self, vectors: Tensor) -> Tensor:
        """Rotate queries or keys (batch, heads, time, head_dim) by their positions, if the scheme does that."""
        return self.position.rotate(vectors, self.rotation)

    def visible(self, window: int | None = None, cache: LayerCache | None = None) -> Visible:
        """The keys that queries of a layer see: through its window, among those that its cache returns.

        Layers of one window share one answer: their caches are of one kind and equally full. Compiled ones do not, for
        the first of them would be another function than the rest.
        """
        key = (window, cache is None)
        if key in self._seen:
            return self._seen[key]
        slots = None if cache is None else cache.slots(self.mask.offset, self.mask.num_queries, self.mask.device)
        visible = Visible(self.mask, window, slots, self.bias)
        if not torch.compiler.is_compiling():
            self._seen[key] = visible
        return visible


def _positions_in(documents: Tensor) -> Tensor:
    """Earlier tokens of the same document, for documents (batch, time); in time log time and not its square."""
    order = documents.argsort(dim=1, stable=True)
    grouped = documents.gather(1, order)
    indices = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(grouped, dtype=torch.bool)
    begins[:, 1:] = grouped[:, 1:] != grouped[:, :-1]
    begin = torch.where(begins, indices, 0).cummax(1).values
    return torch.empty_like(documents).scatter(1, order, indices - begin)


class NoPosition(Position):
    """No positions at all: only causality distinguishes tokens (Kazemnejad et al. 2023, arXiv 2305.19466, NoPE)."""

    def __init__(self) -> None:
        super().__init__()


class LearnedPosition(Position):
    """One trained vector for each of context_length positions, added to the embedding: ``h_t = embedding(x_t) +
    position(t)``.

    Source: Radford et al. 2019 (GPT-2), after Gehring et al. 2017, arXiv 1705.03122, section 3.1.
    """

    def __init__(self, dim: int, context_length: int) -> None:
        super().__init__()
        check_positive(context_length=context_length)
        self.dim = dim
        self.context_length = context_length
        self.max_length = context_length
        self.embedding = nn.Embedding(context_length, dim)

    def embed(self, hidden: Tensor, positions: Tensor) -> Tensor:
        return hidden + self.embedding(positions)


class Sinusoidal(Position):
    """``h_t = embedding(x_t) + p(t)``, with ``p(t)_2i = sin(t / theta^(2i / dim))`` and the cosine in 2i + 1.

    No parameters; any length. Embeddings much smaller than ``|p(t)|^2 = dim / 2`` drown in them: the paper multiplies
    those by ``sqrt(dim)`` (``embedding.scale`` here). Angles are float32.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5 (theta = 10000).
    """

    def __init__(self, dim: int, theta: float = 10000.0) -> None:
        super().__init__()
        check_positive(dim=dim)
        if dim % 2:
            raise ValueError(
                f"dim={dim} is odd, but sinusoidal positions are pairs of a sine and a cosine; make dim even"
            )
        check_theta(theta)
        self.dim = dim
        self.theta = theta

    def embed(self, hidden: Tensor, positions: Tensor) -> Tensor:
        angles = positions[..., None].to(torch.float32) / wavelengths(self.theta, self.dim, positions.device)
        sinusoids = torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)
        return hidden + sinusoids.to(hidden.dtype)


def check_theta(theta: float) -> None:
    """Raise ValueError unless wavelengths grow with the pair."""
    if not theta > 1:
        raise ValueError(f"theta={theta} must be greater than 1: it is the base of the wavelengths; 10000 is usual")


def wavelengths(theta: float, width: int, device: torch.device | None = None) -> Tensor:
    """(width / 2,) float32: ``theta^(2i / width)``, the wavelength of each pair over 2 pi, in tokens."""
    return theta ** (torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)


class Alibi(Position):
    """Attention with linear biases: ``score(q, k) - slope_h * (q - k)``, with a slope for each head.

    With num_heads = n a power of two, head h (from 1) has ``slope_h = 2^(-8 h / n)``; otherwise the heads beyond the
    greatest power of two take every other slope of twice that number. No parameters; any length.

    The bias is (num_heads, queries, keys) in float32; attention brings it to the dtype of its scores. In bfloat16 it is
    good to 2^-9 of itself; ``slope * key`` (as in Bloom and MPT, the same after softmax) would be spoilt at 1000
    tokens.

    Source: Press et al. 2021, arXiv 2108.12409, section 3, and its code for other numbers of heads.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        check_positive(num_heads=num_heads)
        self.num_heads = num_heads
        power = 1 << (num_heads.bit_length() - 1)
        own = [2.0 ** (-8 * head / power) for head in range(1, power + 1)]
        finer = [2.0 ** (-4 * head / power) for head in range(1, 2 * power + 1, 2)]
        self.slopes = (*own, *finer[: num_heads - power])

    def bias(self, mask: CausalMask) -> Tensor:
        """(num_heads, queries, keys). Keys in the future get a finite value: mask them."""
        return -torch.tensor(self.slopes, device=mask.device)[:, None, None] * mask.distances()


class PositionPattern(Position):
    """A position scheme for each layer: rotary in three layers of four and none in the fourth, say.

    schemes, pattern, first   as for ``LayerPattern``. Layers of one name share one scheme; one that no layer has is not
                              built

    Source: Yang et al. 2025, arXiv 2501.18795 (rotary and NoPE layers interleaved); SmolLM3 has none in every fourth
    layer.
    """

    def __init__(
        self,
        schemes: Mapping[str, Callable[..., Position]],
        pattern: Sequence[str],
        num_heads: int,
        head_dim: int,
        dim: int,
        context_length: int,
        num_layers: int,
        first: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_pattern("schemes", schemes, pattern, first)
        build = partial(
            supply_part, num_heads=num_heads, head_dim=head_dim, dim=dim, context_length=context_length,
            num_layers=num_layers,
        )  # fmt: skip
        self.pattern = pattern
        self.first = first
        built = {
            name: build(f"schemes.{name}", scheme, Position)
            for name, scheme in schemes.items()
            if name in (*first, *pattern)
        }
        self.schemes = nn.ModuleDict(built)
        self.max_length = min((s.max_length for s in built.values() if s.max_length is not None), default=None)

    def of_layer(self, layer: int) -> Position:
        scheme = self.schemes[name_of_layer(layer, self.pattern, self.first)]
        assert isinstance(scheme, Position)
        return scheme
