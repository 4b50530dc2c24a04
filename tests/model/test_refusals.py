"""Sizes that cannot work are refused by constructors, with the argument, the rule and the fix."""

from functools import partial

import pytest
import torch

from atomiclm.model import (
    Decoder,
    FeedForward,
    LearnedPosition,
    MultiHeadAttention,
    NoPosition,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    TransformerBlock,
)

SIZES = {"vocab_size": 50, "dim": 48, "num_layers": 2, "context_length": 16}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((48, 5), r"num_heads=5 does not divide dim=48.*choose one of \[1, 2, 3, 4, 6, 8, 12, 16, 24, 48\]"),
        ((48, 8, 3), r"num_kv_heads=3 does not divide num_heads=8.*choose one of \[1, 2, 4, 8\]"),
        ((48, 4, 8), r"num_kv_heads=8 does not divide num_heads=4"),
        ((48, 0), "num_heads=0 must be greater than 0"),
        ((48, 8, 0), "num_kv_heads=0 must be greater than 0"),
        ((48, 8, 2, 0), "head_dim=0 must be greater than 0"),
        ((-1, 8), "dim=-1 must be greater than 0"),
    ],
)
def test_heads(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(*arguments)


def test_heads_that_work():
    for arguments in ((48, 8), (48, 8, 8), (48, 8, 1)):
        assert MultiHeadAttention(*arguments).head_dim == 6
    assert MultiHeadAttention(48, 5, 5, head_dim=10).head_dim == 10  # with head_dim, the width need not be divided


def test_rotary():
    with pytest.raises(ValueError, match=r"head_dim=3 is odd.*position=none"):
        RotaryEmbedding(3)
    with pytest.raises(ValueError, match=r"theta=1\.0 must be greater than 1"):
        RotaryEmbedding(4, theta=1.0)
    with pytest.raises(ValueError, match="head_dim=3 is odd"):
        Decoder(**SIZES, attention=partial(MultiHeadAttention, num_heads=16))
    Decoder(**SIZES, attention=partial(MultiHeadAttention, num_heads=16), position=NoPosition)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_dropout(value):
    for call in (
        partial(MultiHeadAttention, 48, 4, dropout=value),
        partial(Decoder, **SIZES, dropout=value),
        partial(TransformerBlock, torch.nn.Identity, torch.nn.Identity, torch.nn.Identity, dropout=value),
    ):
        with pytest.raises(ValueError, match=r"dropout=.* must be at least 0 and below 1"):
            call()


def test_length():
    tokens = torch.zeros(1, 17, dtype=torch.int64)
    Decoder(**SIZES)(tokens)
    learned = Decoder(**SIZES, position=LearnedPosition)
    learned(tokens[:, :16])
    with pytest.raises(ValueError, match="17 positions asked of LearnedPosition, which has 16"):
        learned(tokens)


@pytest.mark.parametrize("size", SIZES)
def test_decoder_sizes_are_positive(size):
    with pytest.raises(ValueError, match=f"{size}=0 must be greater than 0"):
        Decoder(**(SIZES | {size: 0}))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(SwiGLU, 8, hidden_dim=0), "hidden_dim=0 must"),
        (partial(SwiGLU, 8, multiple_of=0), "multiple_of=0 must"),
        (partial(FeedForward, 8, hidden_dim=-3), "hidden_dim=-3 must"),
        (partial(FeedForward, 8, activation="glu"), "activation=glu must be one of gelu, gelu_tanh"),
        (partial(RMSNorm, 8, eps=0.0), r"eps=0\.0 must"),
    ],
)
def test_component_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()
