"""Attention: the interface a block calls, and multi-head attention with shared key/value heads."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from atomiclm.model.accounting import Accounted, matmul_flops
from atomiclm.model.attend import attend
from atomiclm.model.cache import LayerCache, WindowCache
from atomiclm.model.context import AttentionContext
from atomiclm.model.gate import OutputGate
from atomiclm.model.linear import ResidualLinear
from atomiclm.model.query_key_norm import QueryKeyNorm
from atomiclm.model.rules import check_dropout, check_heads, check_window
from atomiclm.model.scores import SDPA, Scores, Softmax
from atomiclm.model.sizes import supply_part


class Attention(Accounted):
    """Mixes information between tokens: (batch, time, dim) to (batch, time, dim)."""

    num_heads: Annotated[int, "Heads, which the position scheme is built for"]
    head_dim: Annotated[int, "Width of the vectors that the position scheme rotates"]

    @property
    def query_width(self) -> int:
        """Features of a query and a key, whose product a ``Scores`` scales."""
        return self.head_dim

    @abstractmethod
    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Attend within what ``context`` allows; keys before ``context.mask.offset`` come from the cache."""

    @abstractmethod
    def make_cache(self, batch_size: int, max_length: int, dtype: torch.dtype) -> LayerCache:
        """Room for ``max_length`` tokens of ``batch_size`` rows, on this layer's device."""

    @abstractmethod
    def cache_elements(self, length: int) -> int:
        """Numbers that a sequence of ``length`` tokens keeps in this layer's cache."""

    def attended_keys(self, length: int) -> float:
        """Keys a query must look at, averaged over the queries of a full context of ``length`` tokens.

        Causality alone leaves ``(length + 1) / 2`` of them. ``flops_per_token`` counts the whole rectangle, since that
        is what is multiplied where masked scores are not skipped.
        """
        return (length + 1) / 2


class MultiHeadAttention(Attention):
    """``weights(Q K^T) V`` in num_heads heads, with num_kv_heads key/value heads among them.

    Query head h reads key/value head ``h // (num_heads / num_kv_heads)``. num_kv_heads = num_heads (the default, None)
    is multi-head attention, 1 is multi-query, in between grouped-query. Layout (batch, heads, time, head_dim).

    bias             biases in the projections of queries, keys and values; output_bias that of the output (None: as
                     bias)
    dropout          drops attention weights, in training only
    window           a query sees itself and the ``window - 1`` tokens before it; None sees all. A list is one entry a
                     layer, repeated to the last: ``[512] * 5 + [None]`` is five local layers to a global one. Counted
                     in tokens of the row, so a document should stand together in it
    query_key_norm   a ``QueryKeyNorm``
    scores           what turns products into weights, a ``Scores``: its ``scale`` is ``head_dim^-0.5`` by default
    gate             an ``OutputGate`` of the mixed values

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2; Shazeer 2019, arXiv 1911.02150 (multi-query); Ainslie
    et al. 2023, arXiv 2305.13245 (grouped-query); Jiang et al. 2023, arXiv 2310.06825 (window, and its rolling cache);
    Gemma 3, arXiv 2503.19786 (five local layers to a global one).

    Parameters: ``2 dim num_heads head_dim + 2 dim num_kv_heads head_dim``, plus biases and the components'. Cache: ``2
    num_kv_heads head_dim`` numbers a token, of the last ``window`` tokens. Forward FLOPs a token: two for each weight
    and ``4 num_heads head_dim context_length``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        output_bias: bool | None = None,
        dropout: float = 0.0,
        window: int | Sequence[int | None] | None = None,
        query_key_norm: Callable[..., QueryKeyNorm] | None = None,
        scores: Callable[..., Scores] = Softmax,
        gate: Callable[..., OutputGate] | None = None,
        layer: int = 0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads, num_kv_heads, head_dim)
        check_dropout("dropout", dropout)
        check_window(window)
        self.dim = dim
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.bias = bias
        self.output_bias = bias if output_bias is None else output_bias
        self.dropout = dropout
        self.window = window
        self.layer = layer
        sizes = {
            "dim": dim,
            "num_heads": num_heads,
            "num_kv_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "layer": layer,
        }
        self.query = nn.Linear(dim, self.num_heads * self.head_dim, bias=bias)
        self.key = nn.Linear(dim, self.num_kv_heads * self.head_dim, bias=bias)
        self.value = nn.Linear(dim, self.num_kv_heads * self.head_dim, bias=bias)
        self.query_key_norm = (
            None if query_key_norm is None else supply_part("query_key_norm", query_key_norm, QueryKeyNorm, **sizes)
        )
        self.scores = supply_part("scores", scores, **sizes)
        self.gate = None if gate is None else supply_part("gate", gate, **sizes)
        self.output = ResidualLinear(self.num_heads * self.head_dim, dim, bias=self.output_bias)

    @property
    def layer_window(self) -> int | None:
        """The window of this layer; None is none."""
        if self.window is None or isinstance(self.window, int):
            return self.window
        return self.window[self.layer % len(self.window)]

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Attend: hidden (batch, time, dim) to (batch, time, dim)."""
        query, key = self._turned(self._split(self.query(hidden)), self._split(self.key(hidden)), context)
        value = self._split(self.value(hidden))
        visible = context.visible(self.layer_window, cache)
        if cache is not None:
            key, value = cache.write(context.mask.offset, key, value)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, visible, self.scores, self.scores.factor(self.query_width), dropout)
        if self.gate is not None:
            mixed = self.gate(hidden, mixed)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, projected: Tensor) -> Tensor:
        """(batch, time, heads * head_dim) to (batch, heads, time, head_dim)."""
        return projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _turned(self, query: Tensor, key: Tensor, context: AttentionContext) -> tuple[Tensor, Tensor]:
        """Queries and keys told where they stand, and normalised before that or after."""
        norm = self.query_key_norm
        if norm is not None and not norm.after_rotation:
            query, key = norm(query, key)
        query, key = context.rotate(query), context.rotate(key)
        if norm is not None and norm.after_rotation:
            query, key = norm(query, key)
        return query, key

    def make_cache(self, batch_size: int, max_length: int, dtype: torch.dtype) -> LayerCache:
        """Keys (rotated) and values, each (batch_size, num_kv_heads, max_length or the window, head_dim)."""
        window = self.layer_window
        length = max_length if window is None else min(window, max_length)
        shape = (batch_size, self.num_kv_heads, length, self.head_dim)
        kind = LayerCache if window is None else WindowCache
        device = self.output.weight.device
        return kind(torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device))

    def cache_elements(self, length: int) -> int:
        """A key and a value of each token in the window for each key/value head."""
        window = self.layer_window
        return 2 * self.num_kv_heads * self.head_dim * (length if window is None else min(window, length))

    def attended_keys(self, length: int) -> float:
        """``(length + 1) / 2``, or through a window w shorter than that ``w - w (w - 1) / (2 length)``."""
        window = self.layer_window
        if window is None or window >= length:
            return super().attended_keys(length)
        return window - window * (window - 1) / (2 * length)

    def activation_elements_per_token(self, context_length: int) -> int:
        """The layer's input, queries, keys, values and their weighted mean, and what the components keep.

        Without dropout and without a mask. The fused kernel keeps one log-sum-exp a head; where scores are not a plain
        softmax this is the explicit kernel, which keeps numbers for every query, head and key.
        """
        vectors = 2 * self.num_heads * self.head_dim + 2 * self.num_kv_heads * self.head_dim
        kept = 1 if SDPA in self.scores.kernels else self.scores.kept_per_score() * context_length
        total = self.dim + vectors + self.num_heads * kept
        if self.query_key_norm is not None:
            total += self.query_key_norm.kept_per_token(self.num_heads, self.num_kv_heads, self.head_dim)
        return total + (0 if self.gate is None else self.gate.activation_elements_per_token(context_length))

    def flops_per_token(self, context_length: int) -> int:
        """Projections, the gate's among them, and the two products with context_length keys and values."""
        projections = matmul_flops(self.query, self.key, self.value, self.output)
        gate = 0 if self.gate is None else self.gate.flops_per_token(context_length)
        return projections + gate + 4 * self.num_heads * self.head_dim * context_length
