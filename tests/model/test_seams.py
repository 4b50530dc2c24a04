"""Variants the package does not have, each one class here, run through the decoder as it is."""

import math
from functools import partial

import pytest
import torch

from atomiclm.model import (
    Attention,
    AttentionContext,
    Block,
    CausalMask,
    Decoder,
    Head,
    LayerCache,
    MultiHeadAttention,
    Position,
    Scores,
)
from atomiclm.model.components import ResidualLinear

VOCAB = 29
TOKENS = torch.randint(VOCAB, (2, 12), generator=torch.Generator().manual_seed(0))


def build(**changes):
    return Decoder(**({"vocab_size": VOCAB, "dim": 32, "num_layers": 3, "context_length": 16} | changes)).double()


class LogBias(Position):
    """A penalty that grows with the logarithm of the distance (Chi et al. 2022, arXiv 2205.09921)."""

    def __init__(self, num_heads):
        super().__init__()
        self.slopes = [0.5 * (head + 1) for head in range(num_heads)]

    def bias(self, mask):
        slopes = torch.tensor(self.slopes, dtype=torch.float64, device=mask.device)
        return -slopes[:, None, None] * mask.distances().clamp(min=0).double().log1p()


class GatedBlock(Block):
    """No norms; a learned factor on each branch instead (Bachlechner et al. 2020, arXiv 2003.04887)."""

    def __init__(self, attention, feedforward):
        super().__init__()
        self.attention = attention()
        self.feedforward = feedforward()
        self.factor = torch.nn.Parameter(torch.full((1,), 0.1))

    def forward(self, hidden, context, cache=None):
        hidden = hidden + self.factor * self.attention(hidden, context, cache)
        return hidden + self.factor * self.feedforward(hidden)


class MeanAttention(Attention):
    """Every token reads the mean of what it sees: an attention without queries, whose cache is one tensor."""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.value = torch.nn.Linear(dim, dim, bias=False)
        self.output = ResidualLinear(dim, dim, bias=False)

    def forward(self, hidden, context, cache=None):
        value = self.value(hidden)[:, None]
        if cache is not None:
            (value,) = cache.write(context.mask.offset, value)
        seen = context.visible(cache=cache)
        hidden_keys = 0.0 if seen.is_everything else seen.additive(value.dtype)
        scores = torch.zeros(hidden.shape[1], value.shape[2], dtype=value.dtype) + hidden_keys
        return self.output((scores.softmax(-1) @ value)[:, 0])

    def make_cache(self, batch_size, max_length, dtype):
        return LayerCache(torch.zeros(batch_size, 1, max_length, self.value.out_features, dtype=dtype))

    def cache_elements(self, length):
        return self.value.out_features * length

    def flops_per_token(self, context_length):
        return super().flops_per_token(context_length) + 2 * self.value.out_features * context_length


class SquaredScores(Scores):
    """Weights in proportion to squares: not a softmax, so only the explicit kernel has it."""

    def weights(self, scores):
        squares = torch.where(scores == -torch.inf, 0.0, scores).square() + 1e-3 * (scores > -torch.inf)
        return squares / squares.sum(-1, keepdim=True)


class ShiftedHead(Head):
    """A learned score for each token, whatever came before."""

    def __init__(self, dim, vocab_size, tie_embeddings):
        super().__init__(dim, vocab_size, tie_embeddings)
        self.shift = torch.nn.Parameter(torch.linspace(0, 1, vocab_size))

    def forward(self, hidden, embedding):
        return super().forward(hidden, embedding) + self.shift


VARIANTS = {
    "log_bias": {"position": LogBias},
    "gated": {"block": GatedBlock},
    "mean": {"attention": partial(MeanAttention, num_heads=4)},
    "squared_scores": {"attention": partial(MultiHeadAttention, num_heads=4, window=5, scores=SquaredScores)},
    "shifted_head": {"head": ShiftedHead},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("with_documents", [False, True])
def test_a_new_variant_is_one_class(variant, with_documents):
    """It builds, differs from the default, is causal, and decodes from its cache."""
    model = build(**VARIANTS[variant])
    documents = torch.tensor([[-1] * 2 + [0] * 10, [0] * 12]) if with_documents else None
    logits = model(TOKENS, documents=documents)
    assert not torch.allclose(logits, build()(TOKENS, documents=documents), rtol=0, atol=1e-6)

    changed = TOKENS.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % VOCAB
    assert torch.equal(model(changed, documents=documents)[:, :7], logits[:, :7])

    cache = model.make_cache(2, 12)
    assert cache.num_bytes == 2 * model.cache_bytes(12, 8)
    parts, begin = [], 0
    for size in (5, 1, 4, 1, 1):
        chunk = slice(begin, begin + size)
        with torch.no_grad():
            parts.append(model(TOKENS[:, chunk], cache, None if documents is None else documents[:, chunk]))
        begin += size
    assert (torch.cat(parts, 1) - logits).abs().max() < 1e-12
    assert model.num_parameters() == sum(model.num_parameters_by_role().values())


def test_a_bias_is_added_before_softmax():
    attention = build(position=LogBias, num_layers=1).blocks[0].attention
    hidden = torch.randn(1, 6, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    position = LogBias(4)
    context = AttentionContext.build(position, CausalMask(6, 6, torch.device("cpu")))
    query, key, value = (
        getattr(attention, name)(hidden)[0].view(6, 4, 8).transpose(0, 1) for name in ("query", "key", "value")
    )
    expected = torch.zeros(4, 6, 8, dtype=torch.float64)
    for head in range(4):
        for t in range(6):
            scores = query[head, t] @ key[head, : t + 1].T / math.sqrt(8)
            scores = scores - position.slopes[head] * (t - torch.arange(t + 1)).double().log1p()
            expected[head, t] = scores.softmax(-1) @ value[head, : t + 1]
    joined = expected.transpose(0, 1).reshape(1, 6, 32)
    assert (attention(hidden, context) - attention.output(joined)).abs().max() < 1e-12
