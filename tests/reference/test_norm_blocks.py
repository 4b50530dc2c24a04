"""Blocks are wired as transformers wires its layers: the same parts in both, equal to 1e-12 in float64."""

from functools import partial
from importlib import import_module

import pytest
import torch
from torch import nn

from atomiclm.model import ParallelBlock, PostNormBlock, ReorderedNormBlock, SandwichNormBlock, TransformerBlock

DIM, TIME = 32, 9
LLAMA_LIKE = {
    "hidden_size": DIM,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 17,
    "pad_token_id": 0,
    "attn_implementation": "eager",  # Gemma 2 caps its scores, which sdpa cannot
}
GPT_LIKE = {"n_embd": DIM, "n_head": 4, "n_layer": 2, "n_positions": 16, "vocab_size": 17}


class Borrowed(nn.Module):
    """Their attention behind our call."""

    def __init__(self, attention, arguments):
        super().__init__()
        self.attention = attention
        self.arguments = arguments

    def forward(self, hidden, context, cache):
        return self.attention(hidden, **self.arguments)[0]


def rotary(kind, config):
    positions = torch.arange(TIME)[None]
    rotation = kind(config)(torch.zeros(1, TIME, DIM, dtype=torch.float64), positions)
    return {"position_embeddings": rotation, "attention_mask": None}


def llama_like(family, **arguments):
    from transformers import AutoConfig

    modeling = import_module(f"transformers.models.{family}.modeling_{family}")
    config = AutoConfig.for_model(family, **LLAMA_LIKE, **arguments)
    layer, kind = (getattr(modeling, family.capitalize() + name) for name in ("DecoderLayer", "RotaryEmbedding"))
    return layer(config, layer_idx=0), rotary(kind, config)


def neox(parallel):
    from transformers import GPTNeoXConfig
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXLayer, GPTNeoXRotaryEmbedding

    config = GPTNeoXConfig(
        hidden_size=DIM,
        intermediate_size=48,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=17,
        use_parallel_residual=parallel,
        attn_implementation="sdpa",
    )
    return GPTNeoXLayer(config, 0), rotary(GPTNeoXRotaryEmbedding, config)


def gpt1():
    from transformers import OpenAIGPTConfig
    from transformers.models.openai.modeling_openai import Block

    return Block(16, OpenAIGPTConfig(**GPT_LIKE), scale=True), {}


def gpt2():
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    return GPT2Block(GPT2Config(**GPT_LIKE, attn_implementation="sdpa"), layer_idx=0), {}


def gptj():
    from transformers import GPTJConfig
    from transformers.models.gptj import modeling_gptj

    config = GPTJConfig(**GPT_LIKE, rotary_dim=8, attn_implementation="eager")
    if hasattr(modeling_gptj, "GPTJRotaryEmbedding"):
        arguments = rotary(modeling_gptj.GPTJRotaryEmbedding, config)
    else:  # up to transformers 5.23, where each layer has its own table
        arguments = {"position_ids": torch.arange(TIME)[None]}
    return modeling_gptj.GPTJBlock(config, 0), arguments


# theirs, ours, names of their attention, network and norms in the order in which our block asks for norms
CASES = {
    "gemma2": (
        partial(llama_like, "gemma2"),
        SandwichNormBlock,
        "self_attn mlp input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm",
    ),
    "olmo2": (
        partial(llama_like, "olmo2"),
        ReorderedNormBlock,
        "self_attn mlp post_attention_layernorm post_feedforward_layernorm",
    ),
    "granite": (
        partial(llama_like, "granite", residual_multiplier=0.22),
        lambda *parts: TransformerBlock(*parts, residual_scale=0.22),
        "self_attn mlp input_layernorm post_attention_layernorm",
    ),
    "gpt2": (
        gpt2,
        TransformerBlock,
        "attn mlp ln_1 ln_2",
    ),
    "gpt_neox": (
        partial(neox, True),
        lambda *parts: ParallelBlock(DIM, *parts, shared_norm=False),
        "attention mlp input_layernorm post_attention_layernorm",
    ),
    "gpt_neox_in_sequence": (
        partial(neox, False),
        TransformerBlock,
        "attention mlp input_layernorm post_attention_layernorm",
    ),
    "gptj": (gptj, lambda *parts: ParallelBlock(DIM, *parts), "attn mlp ln_1"),
    "cohere": (
        partial(llama_like, "cohere"),
        lambda *parts: ParallelBlock(DIM, *parts),
        "self_attn mlp input_layernorm",
    ),
    "gpt1": (
        gpt1,
        PostNormBlock,
        "attn mlp ln_1 ln_2",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_block_equals_their_layer(name):
    make, block, parts = CASES[name]
    theirs, arguments = make()
    theirs = theirs.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    attention, network, *norms = (getattr(theirs, part) for part in parts.split())
    left = iter(norms)
    ours = block(lambda: Borrowed(attention, arguments), lambda: network, lambda: next(left)).eval()
    assert next(left, None) is None, "the block asks for as many norms as they have"

    hidden = torch.randn(2, TIME, DIM, generator=generator, dtype=torch.float64, requires_grad=True)
    result = ours(hidden, None)
    expected = theirs(hidden, **arguments)
    expected = expected[0] if isinstance(expected, tuple | list) else expected
    assert (result - expected).abs().max() < 1e-12 * expected.abs().max()
    assert (result - hidden).abs().min(-1).values.max() > 1e-3, "something was added everywhere"

    wanted = [hidden, *theirs.parameters()]
    for mine, other in zip(
        torch.autograd.grad(result.square().sum(), wanted),
        torch.autograd.grad(expected.square().sum(), wanted),
        strict=True,
    ):
        assert (mine - other).abs().max() <= 1e-12 * other.abs().max().clamp_min(1e-12)
