"""A whole model with each rope scaling and layout equals transformers' Llama, with copied weights, in float64."""

from functools import partial

import pytest
import torch
from torch import nn

from atomiclm.model import (
    Decoder,
    DynamicNTK,
    Llama3Scaling,
    MultiHeadAttention,
    PositionInterpolation,
    ProportionalRotary,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    YaRN,
    cross_entropy,
)

VOCAB, DIM, LAYERS, HEADS, KV_HEADS, HIDDEN, THETA, ORIGINAL = 41, 48, 2, 4, 2, 64, 300.0, 16
NAMES = {
    "attention_norm": "input_layernorm",
    "feedforward_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feedforward.gate": "mlp.gate_proj",
    "feedforward.up": "mlp.up_proj",
    "feedforward.down": "mlp.down_proj",
}
SCALINGS = {
    "none": (RotaryEmbedding, {}, {"rope_type": "default"}),
    "interpolation": (PositionInterpolation, {"factor": 3.0}, {"rope_type": "linear", "factor": 3.0}),
    "dynamic": (DynamicNTK, {"factor": 2.0}, {"rope_type": "dynamic", "factor": 2.0}),
    "yarn": (
        YaRN,
        {"factor": 4.0, "beta_fast": 6.0},
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 6.0, "original_max_position_embeddings": ORIGINAL},
    ),
    "llama3": (
        Llama3Scaling,
        {"factor": 8.0, "low_frequency_factor": 0.2, "high_frequency_factor": 2.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 0.2,
            "high_freq_factor": 2.0,
            "original_max_position_embeddings": ORIGINAL,
        },
    ),
    "proportional": (
        ProportionalRotary,
        {"fraction": 0.5},
        {"rope_type": "proportional", "partial_rotary_factor": 0.5},
    ),
}


def theirs_of(ours):
    """Our parameter's name: its name in Llama."""
    if ours.startswith("blocks."):
        _, layer, rest = ours.split(".", 2)
        return f"model.layers.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"
    return {
        "embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "head.weight": "lm_head.weight",
    }[ours]


def as_halves(name, tensor, layout):
    """Rows of our query and key projections where Llama has them: as they are, if paired by halves already."""
    heads = {"query": HEADS, "key": KV_HEADS}.get(name.split(".")[-2])
    if layout == "half" or heads is None:
        return tensor
    return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def pair_of_models(scaling, layout):
    from transformers import LlamaConfig, LlamaForCausalLM

    scheme, ours_arguments, theirs_parameters = SCALINGS[scaling]
    ours = Decoder(
        VOCAB,
        DIM,
        LAYERS,
        context_length=ORIGINAL,  # what original_length is where it is not given
        attention=partial(MultiHeadAttention, num_heads=HEADS, num_kv_heads=KV_HEADS),
        feedforward=partial(SwiGLU, hidden_dim=HIDDEN),
        norm=partial(RMSNorm, eps=1e-5),
        position=partial(scheme, theta=THETA, layout=layout, **ours_arguments),
        tie_embeddings=False,
    ).double()
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=DIM,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": THETA, **theirs_parameters},
        tie_word_embeddings=False,
        max_position_embeddings=ORIGINAL,
        attn_implementation="sdpa",  # the "eager" one takes softmax in float32 whatever the model's dtype
    )
    theirs = LlamaForCausalLM(config).double()
    # Llama's norm is float32 inside whatever the model's dtype; torch's own is float64 here. `.double()` has widened
    # the table of frequencies too, which changes no value but would make float64 angles.
    theirs.model.rotary_emb.float()
    for name, module in list(theirs.named_modules()):
        if type(module).__name__ == "LlamaRMSNorm":
            parent, _, attribute = name.rpartition(".")
            setattr(theirs.get_submodule(parent), attribute, nn.RMSNorm(DIM, eps=1e-5, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            theirs.get_parameter(theirs_of(name)).copy_(as_halves(name, parameter, layout))
    return ours, theirs


def draw(rows, time):
    return torch.randint(VOCAB, (rows, time), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", ["adjacent", "half"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_logits_and_gradients_equal_llama(scaling, layout):
    """Within the length trained on and three times beyond it."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    ours, theirs = pair_of_models(scaling, layout)
    for time in (ORIGINAL // 2, 3 * ORIGINAL):
        if scaling == "dynamic" and time > ORIGINAL:
            # Llama's forward makes this table with a float32 theta; here it gets the float64 one of the same function.
            rotary = theirs.model.rotary_emb
            rotary.inv_freq, _ = ROPE_INIT_FUNCTIONS["dynamic"](theirs.config, torch.device("cpu"), seq_len=time)
            rotary.max_seq_len_cached = time
        tokens = draw(2, time + 1)
        logits, expected = ours(tokens[:, :-1]), theirs(tokens[:, :-1]).logits
        assert (logits - expected).abs().max() < 1e-10
        assert logits.std() > 0.5, "the comparison would be empty if logits were all but constant"
        ours.zero_grad()
        theirs.zero_grad()
        cross_entropy(logits, tokens[:, 1:]).backward()
        nn.functional.cross_entropy(expected.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum").backward()
        for name, parameter in ours.named_parameters():
            reference = theirs.get_parameter(theirs_of(name)).grad
            difference = (as_halves(name, parameter.grad, layout) - reference).abs().max()
            assert difference < 1e-10 * reference.abs().max(), name


def test_dynamic_equals_llama_s_own_growth():
    """Llama recomputes its table when a longer input comes and goes back for a short one; ours follows the length."""
    ours, theirs = pair_of_models("dynamic", "adjacent")
    for time in (ORIGINAL, 2 * ORIGINAL, 5 * ORIGINAL, ORIGINAL // 2):
        tokens = draw(1, time)
        # Its float32 theta is off by 1e-7 of itself, and so are angles of up to 80 radians.
        assert (ours(tokens) - theirs(tokens).logits).abs().max() < 1e-4


def test_scalings_are_different_functions():
    """Two settings in one process: no two of these agree, so the comparisons above tell them apart."""
    tokens = draw(1, 3 * ORIGINAL)
    logits = [pair_of_models(scaling, "half")[0](tokens) for scaling in SCALINGS]
    for index, first in enumerate(logits):
        for second in logits[:index]:
            assert (first - second).abs().max() > 1e-2
