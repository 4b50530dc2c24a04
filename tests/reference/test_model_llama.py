"""Logits, loss and every gradient equal transformers' Llama with copied random weights, in float64."""

from functools import partial

import pytest
import torch
from torch import nn
from transformers_versions import cache_argument

from atomiclm.model import Decoder, MultiHeadAttention, RMSNorm, RotaryEmbedding, SwiGLU, cross_entropy

VOCAB, DIM, LAYERS, HEADS, HIDDEN, EPS = 61, 48, 3, 4, 80, 1e-5


def half_split(weight, heads):
    """Rows of a projection whose rotary pairs are neighbours, put where Llama expects the two halves of each pair."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def name_map(num_kv_heads, tie):
    """Our name: (Llama's name, what to do to our tensor to get Llama's)."""
    same = lambda tensor: tensor  # noqa: E731
    names = {
        "embedding.weight": ("model.embed_tokens.weight", same),
        "norm.weight": ("model.norm.weight", same),
    }
    if not tie:
        names["head.weight"] = ("lm_head.weight", same)
    for layer in range(LAYERS):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        names |= {
            f"{ours}.attention_norm.weight": (f"{theirs}.input_layernorm.weight", same),
            f"{ours}.feedforward_norm.weight": (f"{theirs}.post_attention_layernorm.weight", same),
            f"{ours}.attention.query.weight": (f"{theirs}.self_attn.q_proj.weight", partial(half_split, heads=HEADS)),
            f"{ours}.attention.key.weight": (
                f"{theirs}.self_attn.k_proj.weight",
                partial(half_split, heads=num_kv_heads),
            ),
            f"{ours}.attention.value.weight": (f"{theirs}.self_attn.v_proj.weight", same),
            f"{ours}.attention.output.weight": (f"{theirs}.self_attn.o_proj.weight", same),
            f"{ours}.feedforward.gate.weight": (f"{theirs}.mlp.gate_proj.weight", same),
            f"{ours}.feedforward.up.weight": (f"{theirs}.mlp.up_proj.weight", same),
            f"{ours}.feedforward.down.weight": (f"{theirs}.mlp.down_proj.weight", same),
        }
    return names


def pair_of_models(num_kv_heads, theta, tie, head_dim=None):
    from transformers import LlamaConfig, LlamaForCausalLM

    ours = Decoder(
        VOCAB,
        DIM,
        LAYERS,
        context_length=32,
        attention=partial(MultiHeadAttention, num_heads=HEADS, num_kv_heads=num_kv_heads, head_dim=head_dim),
        feedforward=partial(SwiGLU, hidden_dim=HIDDEN),
        norm=partial(RMSNorm, eps=EPS),
        position=partial(RotaryEmbedding, theta=theta),
        tie_embeddings=tie,
    ).double()
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=DIM,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=num_kv_heads,
        head_dim=head_dim or DIM // HEADS,
        rms_norm_eps=EPS,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        tie_word_embeddings=tie,
        max_position_embeddings=64,
        attn_implementation="sdpa",  # the "eager" one takes softmax in float32 whatever the model's dtype
    )
    theirs = LlamaForCausalLM(config).double()
    # Llama's norm is float32 inside whatever the model's dtype; torch's own is float64 here.
    for name, module in list(theirs.named_modules()):
        if type(module).__name__ == "LlamaRMSNorm":
            parent, _, attribute = name.rpartition(".")
            setattr(theirs.get_submodule(parent), attribute, nn.RMSNorm(DIM, eps=EPS, dtype=torch.float64))
    names = name_map(num_kv_heads, tie)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            # Far from initial weights (all-ones gains, tiny logits), so that nothing hides.
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            theirs.get_parameter(names[name][0]).copy_(names[name][1](parameter))
    assert {names[name][0] for name, _ in ours.named_parameters()} == {name for name, _ in theirs.named_parameters()}
    return ours, theirs, names


@pytest.mark.parametrize(
    ("num_kv_heads", "theta", "tie", "head_dim"),
    [
        pytest.param(4, 10000.0, False, None, id="multi_head"),
        pytest.param(2, 10000.0, True, None, id="grouped_query_tied"),
        pytest.param(1, 500000.0, False, None, id="multi_query_other_theta"),
        pytest.param(2, 300.0, False, 20, id="wide_heads"),
    ],
)
def test_logits_loss_and_gradients_equal_llama(num_kv_heads, theta, tie, head_dim):
    ours, theirs, names = pair_of_models(num_kv_heads, theta, tie, head_dim)
    tokens = torch.randint(VOCAB, (3, 33), generator=torch.Generator().manual_seed(1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    logits = ours(inputs)
    expected = theirs(inputs).logits
    assert (logits - expected).abs().max() < 1e-10
    assert logits.std() > 0.5, "the comparison would be empty if logits were all but constant"

    loss = cross_entropy(logits, targets) / targets.numel()
    expected_loss = nn.functional.cross_entropy(expected.flatten(0, 1), targets.flatten())
    assert (loss - expected_loss).abs() < 1e-10
    # Llama's own loss shifts the labels itself and is float32 inside.
    assert (loss - theirs(tokens, labels=tokens).loss).abs() < 1e-5

    loss.backward()
    expected_loss.backward()
    for name, parameter in ours.named_parameters():
        counterpart, transform = names[name]
        difference = (transform(parameter.grad) - theirs.get_parameter(counterpart).grad).abs().max()
        assert difference < 1e-10, name
        assert parameter.grad.abs().max() > 1e-6, f"{name} has no gradient to compare"


def test_unpermuted_rotary_pairs_are_another_function():
    """The permutation above is what makes them equal, so the comparison would notice a wrong pairing."""
    ours, theirs, _ = pair_of_models(2, 10000.0, False)
    for layer in range(LAYERS):
        attention, counterpart = ours.blocks[layer].attention, theirs.model.layers[layer].self_attn
        counterpart.q_proj.weight.data.copy_(attention.query.weight)
        counterpart.k_proj.weight.data.copy_(attention.key.weight)
    tokens = torch.arange(20)[None]
    assert (ours(tokens) - theirs(tokens).logits).abs().max() > 1e-3


def test_packed_documents_equal_llama_on_each_alone():
    ours, theirs, _ = pair_of_models(2, 10000.0, False)
    tokens = torch.randint(VOCAB, (1, 24), generator=torch.Generator().manual_seed(2))
    documents = torch.tensor([[0] * 9 + [1] * 4 + [2] * 11])
    alone = torch.cat([theirs(part).logits for part in tokens.split([9, 4, 11], dim=1)], dim=1)
    assert (ours(tokens, documents=documents) - alone).abs().max() < 1e-10


def test_cached_decoding_equals_llama_with_its_own_cache():
    from transformers import DynamicCache

    ours, theirs, _ = pair_of_models(2, 10000.0, True)
    tokens = torch.randint(VOCAB, (2, 20), generator=torch.Generator().manual_seed(3))
    cache, their_cache = ours.make_cache(2, 20), cache_argument(theirs, DynamicCache())
    for part in tokens.split([7, 1, 5, 1, 1, 5], dim=1):
        with torch.no_grad():
            logits = ours(part, cache)
            expected = theirs(part, **their_cache, use_cache=True).logits
        assert (logits - expected).abs().max() < 1e-10
