"""Logits, loss and every gradient equal transformers' GPT-2: learned positions, LayerNorm, GELU, biases, tied head."""

from functools import partial

import pytest
import torch

from atomiclm.model import Decoder, FeedForward, LayerNorm, LearnedPosition, MultiHeadAttention, cross_entropy

VOCAB, DIM, LAYERS, HEADS, CONTEXT, EPS = 61, 48, 3, 4, 32, 1e-4


def counterparts():
    """Our name: (GPT-2's name, how to cut ours out of it and turn it; GPT-2 stores (in, out) and joins q, k and v)."""
    same = lambda tensor: tensor  # noqa: E731

    def turned(tensor):
        return tensor.T if tensor.ndim == 2 else tensor

    def third(tensor, index):
        return turned(tensor.split(DIM, dim=-1)[index])

    names = {
        "embedding.weight": ("transformer.wte.weight", same),
        "position.embedding.weight": ("transformer.wpe.weight", same),
        "norm.weight": ("transformer.ln_f.weight", same),
        "norm.bias": ("transformer.ln_f.bias", same),
    }
    for layer in range(LAYERS):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            names |= {
                f"{ours}.attention_norm.{kind}": (f"{theirs}.ln_1.{kind}", same),
                f"{ours}.feedforward_norm.{kind}": (f"{theirs}.ln_2.{kind}", same),
                f"{ours}.attention.query.{kind}": (f"{theirs}.attn.c_attn.{kind}", partial(third, index=0)),
                f"{ours}.attention.key.{kind}": (f"{theirs}.attn.c_attn.{kind}", partial(third, index=1)),
                f"{ours}.attention.value.{kind}": (f"{theirs}.attn.c_attn.{kind}", partial(third, index=2)),
                f"{ours}.attention.output.{kind}": (f"{theirs}.attn.c_proj.{kind}", turned),
                f"{ours}.feedforward.up.{kind}": (f"{theirs}.mlp.c_fc.{kind}", turned),
                f"{ours}.feedforward.down.{kind}": (f"{theirs}.mlp.c_proj.{kind}", turned),
            }
    return names


@pytest.mark.parametrize(
    ("activation", "theirs_activation"), [("gelu_tanh", "gelu_new"), ("gelu", "gelu"), ("relu", "relu")]
)
def test_logits_loss_and_gradients_equal_gpt2(activation, theirs_activation):
    from transformers import GPT2Config, GPT2LMHeadModel

    ours = Decoder(
        VOCAB,
        DIM,
        LAYERS,
        CONTEXT,
        attention=partial(MultiHeadAttention, num_heads=HEADS, bias=True),
        feedforward=partial(FeedForward, activation=activation, bias=True),
        norm=partial(LayerNorm, eps=EPS),
        position=LearnedPosition,
    ).double()
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_embd=DIM,
            n_layer=LAYERS,
            n_head=HEADS,
            n_positions=CONTEXT,
            layer_norm_epsilon=EPS,
            activation_function=theirs_activation,
            bos_token_id=0,
            eos_token_id=0,
            attn_implementation="sdpa",
        )
    ).double()
    theirs.eval()  # GPT-2 drops by default
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        names = counterparts()
        for name, parameter in ours.named_parameters():
            parameter.copy_(names[name][1](theirs.get_parameter(names[name][0])))
    assert {names[name][0] for name, _ in ours.named_parameters()} == {name for name, _ in theirs.named_parameters()}

    tokens = torch.randint(VOCAB, (3, CONTEXT + 1), generator=generator)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits = ours(inputs)
    expected = theirs(inputs).logits
    assert (logits - expected).abs().max() < 1e-10

    loss = cross_entropy(logits, targets) / targets.numel()
    expected_loss = torch.nn.functional.cross_entropy(expected.flatten(0, 1), targets.flatten())
    assert (loss - expected_loss).abs() < 1e-10
    loss.backward()
    expected_loss.backward()
    for name, parameter in ours.named_parameters():
        counterpart, cut = names[name]
        assert (parameter.grad - cut(theirs.get_parameter(counterpart).grad)).abs().max() < 1e-10, name
        # A key's bias shifts all scores of a query alike, so its gradient is zero by right.
        assert parameter.grad.abs().max() > 1e-6 or name.endswith("key.bias"), name
