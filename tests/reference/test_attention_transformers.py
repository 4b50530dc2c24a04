"""Attention layers equal those of transformers with copied random weights, in float64: outcome, all gradients, cache.

transformers computes norms and softmax in float32; the tests put float64 ones in their place, as the comparison is of
formulas and not of precision.
"""

from functools import partial
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers_versions import cache_argument

from atomiclm.model import (
    AttentionContext,
    CappedSoftmax,
    CausalMask,
    HeadNorm,
    LatentAttention,
    MultiHeadAttention,
    OutputGate,
    PlainHeadNorm,
    RotaryEmbedding,
    SinkSoftmax,
    Softmax,
    WidthNorm,
    YaRN,
)

DIM, HEADS, KV_HEADS, HEAD_DIM, TIME, ROWS, EPS, WINDOW = 48, 4, 2, 10, 14, 3, 1e-4, 5
COMMON = {
    "hidden_size": DIM,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "num_hidden_layers": 2,
    "attn_implementation": "eager",
}
LATENT = {
    **{name: value for name, value in COMMON.items() if name != "head_dim"},
    "num_key_value_heads": HEADS,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
}
GROUPED = partial(MultiHeadAttention, num_heads=HEADS, num_kv_heads=KV_HEADS, head_dim=HEAD_DIM)
LATENT_OURS = partial(LatentAttention, num_heads=HEADS, latent_dim=12, content_dim=6, rotary_dim=4)
WINDOWED = ["sliding_attention", "full_attention"]

# Ours, transformers' model_type, the arguments of its configuration, theta.
CASES = {
    "qwen2": (
        partial(GROUPED, head_dim=12, bias=True, output_bias=False),
        "qwen2",
        dict(**{**COMMON, "head_dim": 12}, rope_theta=300.0),
        300.0,
    ),
    "qwen3": (
        partial(GROUPED, query_key_norm=partial(HeadNorm, eps=EPS)),
        "qwen3",
        dict(**COMMON, rms_norm_eps=EPS, rope_theta=1e4),
        1e4,
    ),
    "qwen3_biases": (
        partial(GROUPED, query_key_norm=partial(HeadNorm, eps=EPS), bias=True),
        "qwen3",
        dict(**COMMON, rms_norm_eps=EPS, attention_bias=True, rope_theta=1e4),
        1e4,
    ),
    "olmo2": (
        partial(GROUPED, head_dim=12, query_key_norm=partial(WidthNorm, eps=EPS)),
        "olmo2",
        dict(**{**COMMON, "head_dim": 12}, rms_norm_eps=EPS, rope_theta=500.0),
        500.0,
    ),
    "nanochat": (
        partial(GROUPED, query_key_norm=partial(PlainHeadNorm, eps=EPS)),
        "nanochat",
        dict(**COMMON, rms_norm_eps=EPS, rope_theta=1e4),
        1e4,
    ),
    "gemma2_local": (
        partial(GROUPED, window=[WINDOW, None], scores=partial(CappedSoftmax, cap=1.5, scale=7**-0.5), layer=0),
        "gemma2",
        dict(
            **COMMON, attn_logit_softcapping=1.5, query_pre_attn_scalar=7, sliding_window=WINDOW, layer_types=WINDOWED
        ),
        1e4,
    ),
    "gemma2_global": (
        partial(GROUPED, window=[None], scores=partial(CappedSoftmax, cap=0.8, scale=10**-0.5), layer=1),
        "gemma2",
        dict(**COMMON, attn_logit_softcapping=0.8, query_pre_attn_scalar=10, layer_types=["full_attention"] * 2),
        1e4,
    ),
    "mistral": (
        partial(GROUPED, window=WINDOW),
        "mistral",
        dict(**COMMON, sliding_window=WINDOW, rope_theta=1e4),
        1e4,
    ),
    "gpt_oss": (
        partial(GROUPED, window=[WINDOW, None], scores=SinkSoftmax, bias=True, layer=0),
        "gpt_oss",
        dict(
            **COMMON,
            sliding_window=WINDOW,
            attention_bias=True,
            layer_types=WINDOWED,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        ),
        1e4,
    ),
    "deepseek_v2": (
        partial(LATENT_OURS, value_dim=7),
        "deepseek_v2",
        dict(**LATENT, v_head_dim=7, q_lora_rank=None, rope_theta=1e4),
        1e4,
    ),
    "deepseek_v2_query_latent": (
        partial(LATENT_OURS, value_dim=10, query_latent_dim=9),
        "deepseek_v2",
        dict(**LATENT, v_head_dim=10, q_lora_rank=9, rope_theta=1e4),
        1e4,
    ),
    "deepseek_v3_biases": (
        partial(LATENT_OURS, value_dim=13, query_latent_dim=9, bias=True),
        "deepseek_v3",
        dict(**LATENT, v_head_dim=13, q_lora_rank=9, attention_bias=True, rope_theta=1e4),
        1e4,
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


class WideNorm(nn.Module):
    """The RMS norm of transformers' module it takes the place of, without its detour through float32."""

    def __init__(self, original):
        super().__init__()
        weight = getattr(original, "weight", None)
        self.weight = None if weight is None else nn.Parameter(weight.data.double())
        self.eps = getattr(original, "variance_epsilon", None) or original.eps

    def forward(self, hidden):
        return F.rms_norm(hidden, hidden.shape[-1:], self.weight, self.eps)


@pytest.fixture(autouse=True)
def float64_softmax_and_rotation(monkeypatch):
    from transformers.models.deepseek_v2 import modeling_deepseek_v2

    softmax = F.softmax
    monkeypatch.setattr(F, "softmax", lambda scores, dim, dtype=None: softmax(scores, dim=dim))
    # DeepSeek-V2 turns vectors in float32 by a complex table of float32.
    monkeypatch.setattr(modeling_deepseek_v2, "apply_rotary_emb", _turn_in_float64)


def _turn_in_float64(query, key, table):
    def turn(vectors):
        pairs = torch.view_as_complex(vectors.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * table[:, None]).flatten(3)

    return turn(query), turn(key)


def pair_of_layers(case, seed=0):
    """Our layer and transformers' with the same weights; (our name, (their name, what to do to our tensor))."""
    from transformers import AutoConfig

    make, family, arguments, _ = CASES[case]
    config = AutoConfig.for_model(family, **arguments)
    modeling = import_module(f"transformers.models.{family}.modeling_{family}")
    attention = getattr(modeling, type(config).__name__.replace("Config", "Attention"))
    ours = make(DIM).double()
    theirs = attention(config, layer_idx=ours.layer).double()
    for child_name, child in list(theirs.named_children()):
        if "norm" in child_name:
            setattr(theirs, child_name, WideNorm(child))
    names = latent_names(ours) if isinstance(ours, LatentAttention) else names_of(ours)
    assert {theirs_name for theirs_name, _ in names.values()} == {name for name, _ in theirs.named_parameters()}
    assert set(names) == {name for name, _ in ours.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for our_name, parameter in ours.named_parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            their_name, transform = names[our_name]
            theirs.get_parameter(their_name).copy_(transform(parameter))
    return ours, theirs, names


def same(tensor):
    return tensor


def half_split(tensor, heads):
    """Rows, or a gain's entries, whose rotary pairs are neighbours, put where a half-split rotation expects them."""
    return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def half_split_backwards(tensor, heads):
    """For nanochat, which turns the other way round: the two features of each pair change places."""
    return tensor.unflatten(0, (heads, -1, 2)).flip(2).transpose(1, 2).flatten(0, 2)


def names_of(ours):
    heads = {"query": HEADS, "key": KV_HEADS}
    order = half_split_backwards if isinstance(ours.query_key_norm, PlainHeadNorm) else half_split
    names = {"output.weight": ("o_proj.weight", same), "output.bias": ("o_proj.bias", same)}
    for our_name, their_name in (("query", "q"), ("key", "k"), ("value", "v")):
        change = partial(order, heads=heads[our_name]) if our_name in heads else same
        names |= {f"{our_name}.{part}": (f"{their_name}_proj.{part}", change) for part in ("weight", "bias")}
    for our_name, their_name in (("query", "q"), ("key", "k")):
        across = heads[our_name] if isinstance(ours.query_key_norm, WidthNorm) else 1
        names[f"query_key_norm.{our_name}"] = (f"{their_name}_norm.weight", partial(half_split, heads=across))
    names["scores.sink"] = ("sinks", same)
    return {name: names[name] for name, _ in ours.named_parameters() if name in names}


def latent_names(ours):
    direct = ours.query_latent_dim is None
    names = {
        "query.weight": ("q_proj.weight" if direct else "q_b_proj.weight", same),
        "query_squeeze.weight": ("q_a_proj.weight", same),
        "query_squeeze.bias": ("q_a_proj.bias", same),
        "query_gain": ("q_a_layernorm.weight", same),
        "squeeze.weight": ("kv_a_proj_with_mqa.weight", same),
        "squeeze.bias": ("kv_a_proj_with_mqa.bias", same),
        "latent_gain": ("kv_a_layernorm.weight", same),
        "expand.weight": ("kv_b_proj.weight", same),
        "output.weight": ("o_proj.weight", same),
        "output.bias": ("o_proj.bias", same),
    }
    return {name: names[name] for name, _ in ours.named_parameters()}


def draw(time=TIME, seed=1):
    return torch.randn(ROWS, time, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run_ours(layer, hidden, theta, begin=0, cache=None):
    mask = CausalMask(hidden.shape[1], begin + hidden.shape[1], hidden.device)
    return layer(hidden, AttentionContext.build(RotaryEmbedding(layer.head_dim, theta=theta), mask), cache)


def run_theirs(layer, hidden, theta, begin=0, cache=None):
    """As their decoder calls it: rotations for the places, and an additive mask for its kind of layer."""
    end = begin + hidden.shape[1]
    latent = hasattr(layer, "qk_rope_head_dim")
    width = layer.qk_rope_head_dim if latent else layer.head_dim
    # Our own table would prove nothing; float32 angles, as theirs are.
    frequencies = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = (torch.arange(begin, end, dtype=torch.float32)[:, None] * frequencies)[None].expand(ROWS, -1, -1)
    if type(layer).__name__ == "DeepseekV2Attention":
        rotation = torch.complex(angles.cos().double(), angles.sin().double())
    else:
        copies = 1 if type(layer).__name__ == "GptOssAttention" else 2
        rotation = tuple(part.double().repeat(1, 1, copies) for part in (angles.cos(), angles.sin()))
    queries, keys = torch.arange(begin, end)[:, None], torch.arange(end)[None]
    seen = queries >= keys
    window = getattr(layer, "sliding_window", None) or getattr(layer.config, "sliding_window", None)
    if window is not None and getattr(layer, "layer_type", "sliding_attention") == "sliding_attention":
        seen &= keys > queries - window  # transformers.masking_utils.sliding_window_overlay
    mask = torch.zeros(len(queries), end, dtype=torch.float64).masked_fill(~seen, -torch.inf)[None, None]
    return layer(hidden, position_embeddings=rotation, attention_mask=mask, **cache_argument(layer, cache))[0]


@every_case
def test_outcome_and_all_gradients_are_equal(case):
    ours, theirs, names = pair_of_layers(case)
    theta = CASES[case][-1]
    left, right = draw().requires_grad_(), draw().requires_grad_()
    outcome, expected = run_ours(ours, left, theta), run_theirs(theirs, right, theta)
    assert (outcome - expected).abs().max() < 1e-10
    assert outcome.std() > 0.05, "nothing to compare"
    weights = draw(seed=2)
    (outcome * weights).sum().backward()
    (expected * weights).sum().backward()
    assert (left.grad - right.grad).abs().max() < 1e-10
    for name, parameter in ours.named_parameters():
        their_name, transform = names[name]
        difference = (transform(parameter.grad) - theirs.get_parameter(their_name).grad).abs().max()
        assert difference < 1e-10, name
        # One bias of all keys shifts a query's scores alike, but for the rotation.
        assert parameter.grad.abs().max() > 1e-6, f"{name} has no gradient to compare"


@every_case
def test_cached_decoding_is_equal(case):
    """Ours with a cache that may keep a window only, theirs with one that keeps everything."""
    from transformers import DynamicCache

    ours, theirs, _ = pair_of_layers(case)
    theta = CASES[case][-1]
    cache, their_cache = ours.make_cache(ROWS, TIME, torch.float64), DynamicCache()
    begin = 0
    with torch.no_grad():
        for part in draw().split([3, 1, 4, 1, 1, 4], dim=1):
            outcome = run_ours(ours, part, theta, begin, cache)
            assert (outcome - run_theirs(theirs, part, theta, begin, their_cache)).abs().max() < 1e-10
            begin += part.shape[1]


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        ("mistral", partial(GROUPED, window=WINDOW + 1)),
        ("gemma2_global", partial(GROUPED, scores=partial(CappedSoftmax, cap=0.81, scale=10**-0.5))),
        ("gemma2_global", partial(GROUPED, scores=partial(CappedSoftmax, cap=0.8, scale=0.3))),
        ("gemma2_global", partial(GROUPED, scores=partial(Softmax, scale=10**-0.5))),
        ("qwen3", partial(GROUPED, query_key_norm=partial(HeadNorm, eps=1e-3))),
        ("deepseek_v2", partial(LATENT_OURS, value_dim=7, eps=1e-2)),
        ("deepseek_v2", partial(LATENT_OURS, value_dim=7, scores=partial(Softmax, scale=0.5))),
    ],
)
def test_the_comparison_notices_other_settings(case, wrong):
    ours, theirs, _ = pair_of_layers(case)
    other = wrong(DIM).double()
    other.load_state_dict(ours.state_dict())
    theta = CASES[case][-1]
    assert (run_ours(other, draw(), theta) - run_theirs(theirs, draw(), theta)).abs().max() > 1e-6


def test_yarns_factor_on_the_scores_of_latent_attention():
    """DeepSeek's mscale_all_dim multiplies the softmax scale by its square, in a stretched context."""
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3 import modeling_deepseek_v3

    stretch = {"factor": 8.0, "beta_fast": 16.0, "beta_slow": 0.5, "mscale": 0.7, "mscale_all_dim": 1.3}
    config = DeepseekV3Config(
        **LATENT,
        v_head_dim=7,
        q_lora_rank=None,
        max_position_embeddings=256,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "original_max_position_embeddings": 32,
            **stretch,
        },
    )
    ours = LATENT_OURS(DIM, value_dim=7).double()
    theirs = modeling_deepseek_v3.DeepseekV3Attention(config, 0).double()
    theirs.kv_a_layernorm = WideNorm(theirs.kv_a_layernorm)
    with torch.no_grad():
        for name, (their_name, _) in latent_names(ours).items():
            ours.get_parameter(name).normal_(std=0.4, generator=torch.Generator().manual_seed(len(name)))
            theirs.get_parameter(their_name).copy_(ours.get_parameter(name))
    yarn = YaRN(head_dim=4, theta=1e4, context_length=256, original_length=32, **stretch)
    mask = CausalMask(TIME, TIME, torch.device("cpu"))
    outcome = ours(draw(), AttentionContext.build(yarn, mask))
    table = modeling_deepseek_v3.DeepseekV3RotaryEmbedding(config)(draw(), torch.arange(TIME)[None])
    hidden_keys = torch.zeros(TIME, TIME, dtype=torch.float64).masked_fill(~mask.allowed(), -torch.inf)
    expected = theirs(draw(), position_embeddings=table, attention_mask=hidden_keys[None, None])[0]
    assert yarn.score_scale > 1.2
    assert (outcome - expected).abs().max() < 1e-6  # tables of float32, made in another order
    yarn.score_scale = 1.0
    assert (ours(draw(), AttentionContext.build(yarn, mask)) - expected).abs().max() > 1e-3


def test_an_elementwise_gate_equals_that_of_qwen3_next():
    """Whose projection of queries holds the gates as well, head by head; gradients of the weights too."""
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next import modeling_qwen3_next

    config = Qwen3NextConfig(**COMMON, rms_norm_eps=EPS, rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    theirs = modeling_qwen3_next.Qwen3NextAttention(config, 0).double()
    ours = GROUPED(DIM, query_key_norm=partial(HeadNorm, eps=EPS), gate=OutputGate).double()
    theirs.q_norm, theirs.k_norm = WideNorm(theirs.q_norm), WideNorm(theirs.k_norm)

    def joined(attribute):
        """Queries and gates as one tensor of theirs: of the weights, or of their gradients."""
        query, gate = attribute(ours.query.weight), attribute(ours.gate.projection.weight)
        query = half_split(query, HEADS)
        return torch.cat([each.unflatten(0, (HEADS, HEAD_DIM)) for each in (query, gate)], 1).flatten(0, 1)

    names = names_of(ours)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in ours.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, (their_name, transform) in names.items():
            if name != "query.weight":
                theirs.get_parameter(their_name).copy_(transform(ours.get_parameter(name)))
        theirs.q_proj.weight.copy_(joined(lambda parameter: parameter))
    outcome, expected = run_ours(ours, draw(), 1e4), run_theirs(theirs, draw(), 1e4)
    assert (outcome - expected).abs().max() < 1e-10
    outcome.square().sum().backward()
    expected.square().sum().backward()
    gradient = joined(lambda parameter: parameter.grad)
    assert (gradient - theirs.q_proj.weight.grad).abs().max() < 1e-9 * gradient.abs().max()


def test_a_gate_by_head_is_an_elementwise_one_with_equal_rows():
    by_head = GROUPED(DIM, gate=partial(OutputGate, granularity="headwise")).double()
    elementwise = GROUPED(DIM, gate=OutputGate).double()
    state = by_head.state_dict()
    state["gate.projection.weight"] = state["gate.projection.weight"].repeat_interleave(HEAD_DIM, 0)
    elementwise.load_state_dict(state)
    assert (run_ours(by_head, draw(), 1e4) - run_ours(elementwise, draw(), 1e4)).abs().max() < 1e-12
