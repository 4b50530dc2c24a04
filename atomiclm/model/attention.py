"""Attention: the interface a block calls, multi-head attention with shared key/value heads, and none at all."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from atomiclm.model.accounting import Accounted
from atomiclm.model.attention_kernels import attend
from atomiclm.model.attention_scores import SDPA, Scores, Softmax
from atomiclm.model.cache import LayerCache, WindowCache
from atomiclm.model.components import ResidualLinear, check_choice, check_dropout, check_positive, supply_part
from atomiclm.model.norm import QueryKeyNorm
from atomiclm.model.position import AttentionContext


class Attention(Accounted):
    """Mixes information between tokens: (batch, time, dim) to (batch, time, dim)."""

    num_heads: Annotated[int, "Heads, which the position scheme is built for"]
    head_dim: Annotated[int, "Width of the vectors that the position scheme rotates"]

    @abstractmethod
    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Attend within what ``context`` allows; keys before ``context.mask.offset`` come from the cache."""

    @abstractmethod
    def make_cache(self, batch_size: int, max_length: int, dtype: torch.dtype) -> LayerCache:
        """Room for ``max_length`` tokens of ``batch_size`` rows, on this layer's device."""

    @abstractmethod
    def cache_elements(self, length: int) -> int:
        """Numbers that a sequence of ``length`` tokens has in this layer's cache."""

    @abstractmethod
    def flops_per_token(self, context_length: int) -> int:
        """Forward FLOPs of one token: projections, and products with ``context_length`` keys and values."""
        return super().flops_per_token(context_length)

    def attended_keys(self, length: int) -> float:
        """Keys a query must look at, the mean over a full context of ``length`` tokens: by causality ``(length + 1) /
        2``.
        """
        return (length + 1) / 2


class MultiHeadAttention(Attention):
    """``weights(Q K^T) V`` in num_heads heads, with num_kv_heads key/value heads among them.

    Query head h reads key/value head ``h // (num_heads / num_kv_heads)``: multi-head attention with num_kv_heads =
    num_heads (None), multi-query with 1, in between grouped-query. Layout (batch, heads, time, head_dim). Cache: ``2
    num_kv_heads head_dim`` numbers a token, of the last ``window`` tokens.

    head_dim         features of a head; None is dim / num_heads
    bias             in the projections of queries, keys and values; output_bias in that of the output (None: as bias)
    dropout          drops attention weights, in training only
    window           a query sees itself and the ``window - 1`` tokens of the row before it; None sees all. A list is
                     one entry a layer, repeated to the last: ``[512] * 5 + [None]`` is five local layers to a global
                     one
    query_key_norm   a ``QueryKeyNorm``
    scores           what turns products into weights, a ``Scores``: its ``scale`` is ``head_dim^-0.5`` by default
    gate             an ``OutputGate`` of the mixed values

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2; Shazeer 2019, arXiv 1911.02150 (multi-query); Ainslie et
    al. 2023, arXiv 2305.13245 (grouped-query); Jiang et al. 2023, arXiv 2310.06825 (window, rolling cache); Gemma 3,
    arXiv 2503.19786 (five local layers to a global one).
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
        gate: "Callable[..., OutputGate] | None" = None,
        layer: int = 0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim = _head_dim(dim, num_heads) if head_dim is None else head_dim
        check_positive(dim=dim, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim)
        check_dropout(dropout)
        if num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}: every key/value head serves the "
                f"same number of query heads; choose one of {_divisors(num_heads)}"
            )
        self.bias = bias
        self.output_bias = bias if output_bias is None else output_bias
        self.dropout = dropout
        self.window = window
        self.layer = layer
        self.layer_window = _window_of_layer(window, layer)
        build = partial(
            supply_part, dim=dim, num_heads=num_heads, num_kv_heads=self.num_kv_heads, head_dim=self.head_dim,
            layer=layer,
        )  # fmt: skip
        self.query = nn.Linear(dim, self.num_heads * self.head_dim, bias=bias)
        self.key = nn.Linear(dim, self.num_kv_heads * self.head_dim, bias=bias)
        self.value = nn.Linear(dim, self.num_kv_heads * self.head_dim, bias=bias)
        self.query_key_norm = build("query_key_norm", query_key_norm, QueryKeyNorm) if query_key_norm else None
        self.scores = build("scores", scores)
        self.gate = build("gate", gate) if gate else None
        self.output = ResidualLinear(self.num_heads * self.head_dim, dim, bias=self.output_bias)

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        query, key, value = [
            # (batch, time, heads * head_dim) to (batch, heads, time, head_dim)
            project(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        ]
        norm = self.query_key_norm
        if norm is not None and not norm.after_rotation:
            query, key = norm(query, key)
        query, key = context.rotate(query), context.rotate(key)
        if norm is not None and norm.after_rotation:
            query, key = norm(query, key)
        visible = context.visible(self.layer_window, cache)
        if cache is not None:
            key, value = cache.write(context.mask.offset, key, value)
        mixed = attend(query, key, value, visible, self.scores, self.dropout if self.training else 0.0)
        if self.gate is not None:
            mixed = self.gate(hidden, mixed)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def make_cache(self, batch_size: int, max_length: int, dtype: torch.dtype) -> LayerCache:
        """Keys (rotated) and values, each (batch_size, num_kv_heads, max_length or the window, head_dim)."""
        window = self.layer_window
        length = max_length if window is None else min(window, max_length)
        shape = (batch_size, self.num_kv_heads, length, self.head_dim)
        kind = LayerCache if window is None else WindowCache
        device = self.output.weight.device
        return kind(torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device))

    def cache_elements(self, length: int) -> int:
        window = self.layer_window
        return 2 * self.num_kv_heads * self.head_dim * (length if window is None else min(window, length))

    def attended_keys(self, length: int) -> float:
        """``(length + 1) / 2``, or through a window w shorter than that ``w - w (w - 1) / (2 length)``."""
        window = self.layer_window
        if window is None or window >= length:
            return super().attended_keys(length)
        return window - window * (window - 1) / (2 * length)

    def activation_elements_per_token(self, context_length: int) -> int:
        """Input, queries, keys, values, their weighted mean, and what the components save; without dropout and mask.

        The fused kernel saves one log-sum-exp a head, the explicit one ``saved_per_score()`` numbers a query, head and
        key.
        """
        vectors = 2 * self.num_heads * self.head_dim + 2 * self.num_kv_heads * self.head_dim
        saved = 1 if SDPA in self.scores.kernels else self.scores.saved_per_score() * context_length
        total = self.dim + vectors + self.num_heads * saved
        if self.query_key_norm is not None:
            total += self.query_key_norm.saved_per_token(self.num_heads, self.num_kv_heads, self.head_dim)
        return total + (0 if self.gate is None else self.gate.activation_elements_per_token(context_length))

    def flops_per_token(self, context_length: int) -> int:
        return super().flops_per_token(context_length) + 4 * self.num_heads * self.head_dim * context_length


class OutputGate(Accounted):
    """``mixed * sigmoid(W hidden)``: between the weighted mean of the values and the output projection.

    hidden (batch, time, dim) is what the attention layer was given; mixed is (batch, heads, time, head_dim).
    granularity "elementwise" gives each feature of each head its gate (W: dim to num_heads head_dim), "headwise" each
    head one (W: dim to num_heads). No bias. Source: Qiu et al. 2025, arXiv 2505.06708, position G1.
    """

    def __init__(
        self, dim: int, num_heads: int, head_dim: int, granularity: Literal["elementwise", "headwise"] = "elementwise"
    ) -> None:
        super().__init__()
        check_choice(("elementwise", "headwise"), granularity=granularity)
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.granularity = granularity
        self.width = head_dim if granularity == "elementwise" else 1
        self.projection = nn.Linear(dim, num_heads * self.width, bias=False)

    def forward(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        gates = self.projection(hidden).sigmoid()
        return mixed * gates.unflatten(-1, (self.num_heads, self.width)).transpose(1, 2)

    def activation_elements_per_token(self, context_length: int) -> int:
        """The gates, and their product with the mixed values; hidden and mixed are saved by others as well."""
        return self.num_heads * (self.width + self.head_dim)


class NoAttention(Attention):
    """Adds nothing to the stream: ``0 * hidden``, (batch, time, dim) to (batch, time, dim).

    The control for what attention does: each token is scored from itself and its position alone. No parameters, no
    cache, no FLOPs. The product with zero leaves the layer's norm in the graph: its gain has a gradient, of zeros.
    num_heads, with head_dim = dim / num_heads, is for the position scheme alone.
    """

    def __init__(self, dim: int, num_heads: int = 1) -> None:
        super().__init__()
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = _head_dim(dim, num_heads)

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        return hidden * 0.0

    def make_cache(self, batch_size: int, max_length: int, dtype: torch.dtype) -> LayerCache:
        return LayerCache()

    def cache_elements(self, length: int) -> int:
        return 0

    def attended_keys(self, length: int) -> float:
        return 0.0

    def flops_per_token(self, context_length: int) -> int:
        return 0


def _head_dim(dim: int, num_heads: int) -> int:
    """``dim / num_heads``, which has to be whole."""
    check_positive(dim=dim, num_heads=num_heads)
    if dim % num_heads:
        raise ValueError(
            f"num_heads={num_heads} does not divide dim={dim}: each head takes dim / num_heads features; "
            f"choose one of {_divisors(dim)}, or set head_dim"
        )
    return dim // num_heads


def _window_of_layer(window: int | Sequence[int | None] | None, layer: int) -> int | None:
    windows = [window] if window is None or isinstance(window, int) else list(window)
    if not windows:
        raise ValueError("window=[] says nothing; give one entry a layer, repeated to the last, or null for no window")
    for each in windows:
        if each is not None and each < 1:
            raise ValueError(
                f"window={window}: {each} is less than 1, but a token always sees itself; give at least 1 token, or "
                "null for no window"
            )
    return windows[layer % len(windows)]


def _divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]
