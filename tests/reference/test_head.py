"""Heads and embeddings against transformers' last lines, in float64 with gradients."""

from functools import partial

import pytest
import torch

from atomiclm.model import Embedding, Head, SoftcapHead

DIM, VOCAB = 16, 29
COMMON = {
    "hidden_size": DIM,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
# For each model_type our head, our embedding and the arguments of their configuration, which say what stands between
# embedding and first block, last norm and logits.
CASES = {
    "gemma2": (
        partial(SoftcapHead, cap=2.5),
        partial(Embedding, scale="sqrt_dim"),
        {"head_dim": 8, "final_logit_softcapping": 2.5},
    ),
    "nanochat": (
        partial(SoftcapHead, cap=1.5),
        Embedding,
        {"final_logit_softcapping": 1.5},
    ),
    "cohere": (
        partial(Head, scale=0.0625),
        Embedding,
        {"logit_scale": 0.0625},
    ),
    "granite": (
        partial(Head, scale=1 / 8),
        partial(Embedding, scale=12.0),
        {"logits_scaling": 8.0, "embedding_multiplier": 12.0},
    ),
}


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_logits_and_embeddings_equal_theirs(name, tie):
    from transformers import AutoConfig, AutoModelForCausalLM

    make_head, make_embedding, arguments = CASES[name]
    config = AutoConfig.for_model(name, **COMMON, **arguments, tie_word_embeddings=tie)
    theirs = AutoModelForCausalLM.from_config(config).double()
    head, embedding = make_head(DIM, VOCAB, tie).double(), make_embedding(VOCAB, DIM).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for ours, other in ((embedding.weight, theirs.model.embed_tokens.weight), (head.weight, theirs.lm_head.weight)):
            if ours is not None:
                ours.copy_(torch.randn(VOCAB, DIM, generator=generator))
                other.copy_(ours)
    seen = {}
    last = theirs.model.norm
    last.register_forward_hook(lambda _, __, output: seen.setdefault("hidden", output))
    theirs.model.layers[0].register_forward_pre_hook(lambda _, arguments: seen.setdefault("embedded", arguments[0]))
    tokens = torch.randint(VOCAB, (2, 7), generator=generator)
    expected = theirs(tokens).logits

    hidden = seen["hidden"].detach().requires_grad_()
    logits = head(hidden, embedding.weight)
    assert (logits - expected).abs().max() < 1e-12
    embedded = embedding(tokens)
    if name == "nanochat":  # its embedding is normalised at the top of the model
        embedded = torch.nn.functional.rms_norm(embedded, (DIM,), eps=1e-6)
    # Gemma's factor is rounded to the precision of its parameters, and nanochat's norm is float32 inside.
    assert (embedded - seen["embedded"]).abs().max() < 1e-5

    # A tied table has a gradient from the embedding too, so theirs is compared when it is the head's alone.
    ours = torch.autograd.grad(logits.square().sum(), [hidden] if tie else [hidden, head.weight])
    wanted = [seen["hidden"]] if tie else [seen["hidden"], theirs.lm_head.weight]
    for mine, other in zip(ours, torch.autograd.grad(expected.square().sum(), wanted), strict=True):
        assert (mine - other).abs().max() < 1e-12 * other.abs().max()
