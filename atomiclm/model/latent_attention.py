"""Multi-head latent attention: keys and values made of one small vector a token, which alone is cached."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from atomiclm.model.attention import Attention
from atomiclm.model.attention_kernels import attend
from atomiclm.model.attention_scores import SDPA, Scores, Softmax
from atomiclm.model.cache import LayerCache
from atomiclm.model.components import ResidualLinear, check_dropout, check_positive, supply_part
from atomiclm.model.norm import rms_norm
from atomiclm.model.position import AttentionContext


class LatentAttention(Attention):
    """Keys and values are expanded from a latent of latent_dim features; positions have features of their own.

    With c the latent, k_r the one rotated key that all heads share, and h a head::

        c = norm(W_c x)            k_r = rotate(W_r x)             (the two are one projection, ``squeeze``)
        k_h = [U_h c, k_r]         v_h = V_h c                     (``expand`` holds U_h and V_h)
        q_h = [a_h, rotate(b_h)]   (a_h, b_h) = Q_h x, or Q_h norm(W_q x) with query_latent_dim features between
        out = W_o [weights(q_h k_h^T) v_h]_h

    content_dim       features of a query and key that carry no position (qk_nope_head_dim in the published configs)
    rotary_dim        those that the position scheme rotates (qk_rope_head_dim); ``head_dim`` is this number
    value_dim         features of a value (v_head_dim)
    latent_dim        features of the latent (kv_lora_rank)
    query_latent_dim  the same for queries (q_lora_rank); None projects them directly
    bias              biases in the projections to the latents and in the output
    eps               of the RMS norms on the latents
    scores            as for ``MultiHeadAttention``: products are scaled by ``(content_dim + rotary_dim)^-0.5`` unless
                      it says otherwise, and by the position scheme's ``score_scale`` (that of YaRN in DeepSeek)

    Source: DeepSeek-V2, Liu et al. 2024, arXiv 2405.04434, section 2.1, equations 9 to 19; norms on the latents as in
    its published code. A single cached query does not expand the cache: U_h is moved to the query and V_h behind the
    weighted mean (section 2.1.2), the same function with latent_dim features to read a token for all heads.

    Cache: ``latent_dim + rotary_dim`` numbers a token.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        latent_dim: int,
        content_dim: int,
        rotary_dim: int,
        value_dim: int,
        query_latent_dim: int | None = None,
        bias: bool = False,
        eps: float = 1e-6,
        dropout: float = 0.0,
        scores: Callable[..., Scores] = Softmax,
        layer: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            dim=dim, num_heads=num_heads, latent_dim=latent_dim, content_dim=content_dim, rotary_dim=rotary_dim,
            value_dim=value_dim, query_latent_dim=query_latent_dim, eps=eps,
        )  # fmt: skip
        check_dropout(dropout)
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = rotary_dim
        self.latent_dim = latent_dim
        self.content_dim = content_dim
        self.rotary_dim = rotary_dim
        self.value_dim = value_dim
        self.query_latent_dim = query_latent_dim
        self.bias = bias
        self.eps = eps
        self.dropout = dropout
        self.layer = layer
        self.query_squeeze = nn.Linear(dim, query_latent_dim, bias=bias) if query_latent_dim else None
        self.query_gain = nn.Parameter(torch.ones(query_latent_dim)) if query_latent_dim else None
        self.query = nn.Linear(query_latent_dim or dim, num_heads * self.query_width, bias=False)
        self.squeeze = nn.Linear(dim, latent_dim + rotary_dim, bias=bias)
        self.latent_gain = nn.Parameter(torch.ones(latent_dim))
        self.expand = nn.Linear(latent_dim, num_heads * (content_dim + value_dim), bias=False)
        sizes = {"dim": dim, "num_heads": num_heads, "num_kv_heads": num_heads, "head_dim": self.query_width}
        self.scores = supply_part("scores", scores, layer=layer, **sizes)
        self.output = ResidualLinear(num_heads * value_dim, dim, bias=bias)

    @property
    def query_width(self) -> int:
        return self.content_dim + self.rotary_dim

    def forward(self, hidden: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        content, rotated = self._queries(hidden, context)
        latent, shared_key = self.squeeze(hidden)[:, None].split([self.latent_dim, self.rotary_dim], -1)
        memory = torch.cat([self._normed(latent, self.latent_gain), context.rotate(shared_key)], -1)
        visible = context.visible(cache=cache)
        if cache is not None:
            (memory,) = cache.write(context.mask.offset, memory)
        scale = self.scores.factor(self.query_width) * context.position.score_scale
        dropout = self.dropout if self.training else 0.0
        if cache is not None and hidden.shape[1] == 1:
            # U and V: (num_heads, content_dim, latent_dim) and (num_heads, value_dim, latent_dim).
            expand = self.expand.weight.to(memory.dtype).unflatten(0, (self.num_heads, -1))
            to_keys, to_values = expand.split([self.content_dim, self.value_dim], 1)
            query = torch.cat([content @ to_keys, rotated], -1)
            read = attend(query, memory, memory[..., : self.latent_dim], visible, self.scores, dropout, scale)
            mixed = read @ to_values.mT
        else:
            # Joined as projections lie, (batch, time, heads, width), so that the output projection need not copy.
            query = torch.cat([content.transpose(1, 2), rotated.transpose(1, 2)], -1).transpose(1, 2)
            key, value = self._expanded(memory)
            mixed = attend(query, key, value, visible, self.scores, dropout, scale)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _queries(self, hidden: Tensor, context: AttentionContext) -> tuple[Tensor, Tensor]:
        """Their two parts, (batch, num_heads, time, content_dim) and (batch, num_heads, time, rotary_dim)."""
        if self.query_squeeze is not None and self.query_gain is not None:
            hidden = self._normed(self.query_squeeze(hidden), self.query_gain)
        query = self.query(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        content, rotated = query.split([self.content_dim, self.rotary_dim], -1)
        return content, context.rotate(rotated)

    def _expanded(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all heads, from latents and shared keys (batch, 1, keys, latent_dim + rotary_dim)."""
        latent, shared_key = memory.split([self.latent_dim, self.rotary_dim], -1)
        expanded = self.expand(latent[:, 0]).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        content, value = expanded.split([self.content_dim, self.value_dim], -1)
        key = torch.cat([content, shared_key.expand(-1, self.num_heads, -1, -1)], -1)
        return key, value

    def _normed(self, latent: Tensor, gain: Tensor) -> Tensor:
        """In the wider of the two dtypes; returned in the latent's own, which is what the cache stores."""
        return rms_norm(latent, gain, self.eps).to(latent.dtype)

    def make_cache(self, batch_size: int, max_length: int, dtype: torch.dtype) -> LayerCache:
        """Normalised latents and the rotated shared key, side by side: (batch_size, 1, max_length, their sum)."""
        shape = (batch_size, 1, max_length, self.latent_dim + self.rotary_dim)
        return LayerCache(torch.zeros(shape, dtype=dtype, device=self.output.weight.device))

    def cache_elements(self, length: int) -> int:
        return (self.latent_dim + self.rotary_dim) * length

    def activation_elements_per_token(self, context_length: int) -> int:
        """As in ``MultiHeadAttention``, with both latents before and after their norms.

        Values of another width than keys are filled up with zeros on the CPU.
        """
        width, latent, query_latent = self.query_width, self.latent_dim, self.query_latent_dim
        squeezed = 2 * (latent + self.rotary_dim) + 1 + (0 if query_latent is None else 2 * query_latent + 1)
        if SDPA not in self.scores.kernels:
            expanded = 2 * width + 2 * self.value_dim
            return self.dim + squeezed + self.num_heads * (expanded + self.scores.saved_per_score() * context_length)
        if self.value_dim == width:
            # Values are a view of what was expanded, contents and all.
            expanded = 2 * width + self.content_dim + 2 * self.value_dim
        else:
            expanded = 4 * max(width, self.value_dim) + self.value_dim
        return self.dim + squeezed + self.num_heads * (expanded + 1)

    def flops_per_token(self, context_length: int) -> int:
        products = 2 * self.num_heads * (self.query_width + self.value_dim) * context_length
        return super().flops_per_token(context_length) + products
