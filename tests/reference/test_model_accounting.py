"""What a model says it costs, against what torch counts, allocates and what the formulas of the papers give."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from atomiclm.model import (
    Decoder,
    FeedForward,
    LayerNorm,
    LearnedPosition,
    MultiHeadAttention,
    NoPosition,
    SwiGLU,
)

SIZES = {"vocab_size": 96, "dim": 48, "num_layers": 3, "context_length": 24}
VARIANTS = {
    "default": {},
    "grouped": {"attention": partial(MultiHeadAttention, num_heads=4, num_kv_heads=2)},
    "multi_query_wide_heads": {"attention": partial(MultiHeadAttention, num_heads=4, num_kv_heads=1, head_dim=20)},
    "untied": {"tie_embeddings": False},
    "gpt2": {
        "attention": partial(MultiHeadAttention, num_heads=6, bias=True),
        "feedforward": partial(FeedForward, bias=True),
        "norm": LayerNorm,
        "position": LearnedPosition,
    },
    "narrow": {"feedforward": partial(SwiGLU, hidden_dim=40), "position": NoPosition},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("time", [16, 24])
def test_flops_equal_torch_counter(variant, time):
    from torch.utils.flop_counter import FlopCounterMode

    model = Decoder(**SIZES, **VARIANTS[variant])
    tokens = torch.zeros(2, time, dtype=torch.int64)
    # The CPU's fused attention is unknown to the counter; the plain one is made of products that it knows.
    with FlopCounterMode(display=False) as forward, sdpa_kernel(SDPBackend.MATH):
        total = model(tokens).sum()
    with FlopCounterMode(display=False) as backward:
        total.backward()
    assert forward.get_total_flops() == model.flops_per_token(time) * tokens.numel()
    assert backward.get_total_flops() == 2 * forward.get_total_flops()


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_equal_numel_by_role(variant):
    model = Decoder(**SIZES, **VARIANTS[variant])
    by_role = model.num_parameters_by_role()
    assert model.num_parameters() == sum(by_role.values()) == sum(p.numel() for p in set(model.parameters()))
    state = model.state_dict()
    assert model.num_parameters() == sum(tensor.numel() for tensor in state.values()), "saved once, and all of it"
    assert by_role["head"] == (96 * 48 if variant == "untied" else 0)
    assert by_role["embedding"] == 96 * 48 + (24 * 48 if variant == "gpt2" else 0)


def test_parameters_equal_the_formula():
    dim, layers, heads, kv_heads, head_dim, hidden, vocab = 48, 3, 4, 2, 12, 128, 96
    model = Decoder(**SIZES, **VARIANTS["grouped"])
    by_role = model.num_parameters_by_role()
    assert by_role["matrix"] == layers * (dim * heads * head_dim + 2 * dim * kv_heads * head_dim + 2 * dim * hidden)
    assert by_role["residual"] == layers * (heads * head_dim * dim + hidden * dim)
    assert by_role["gain"] == (2 * layers + 1) * dim
    assert by_role["embedding"] == vocab * dim
    assert by_role["bias"] == by_role["head"] == 0
    weights = by_role["matrix"] + by_role["residual"] + vocab * dim
    assert model.flops_per_token() == 2 * weights + 4 * layers * heads * head_dim * 24
    assert model.flops_per_token(100) - model.flops_per_token(99) == 4 * layers * heads * head_dim


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_bytes_equal_what_is_allocated(variant, dtype):
    model = Decoder(**SIZES, **VARIANTS[variant])
    cache = model.make_cache(batch_size=3, max_length=20, dtype=dtype)
    allocated = sum(tensor.untyped_storage().nbytes() for layer in cache.layers for tensor in layer.tensors)
    assert cache.num_bytes == allocated == 3 * 20 * model.cache_bytes_per_token(dtype.itemsize)


def test_cache_shrinks_with_key_value_heads():
    sizes = [
        Decoder(**SIZES, attention=partial(MultiHeadAttention, num_heads=8, num_kv_heads=kv)).cache_bytes_per_token()
        for kv in (8, 4, 2, 1)
    ]
    assert sizes == [2 * 3 * 2 * 48, 2 * 3 * 48, 3 * 48, 3 * 48 // 2]


@pytest.mark.parametrize(
    ("dim", "multiple_of", "hidden_dim"),
    [(64, 8, 176), (192, 8, 512), (128, 8, 344), (128, 32, 352), (4096, 256, 11008)],
)
def test_two_thirds_rule(dim, multiple_of, hidden_dim):
    """11008 of 4096 at 256 is LLaMA 7B's own figure."""
    with torch.device("meta"):
        assert SwiGLU(dim, multiple_of=multiple_of).hidden_dim == hidden_dim
    excess = 3 * dim * hidden_dim - 2 * dim * 4 * dim
    assert 0 <= excess < 3 * dim * multiple_of
