"""muP sets what its table says: deviations, learning rates, multipliers; at the base width nothing changes."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from atomiclm.model import (
    CappedSoftmax,
    Decoder,
    Embedding,
    FeedForward,
    Head,
    LatentAttention,
    MaximalUpdateInit,
    MixtureOfExperts,
    MultiHeadAttention,
    NormalInit,
    SequentialPrediction,
)

BASE, HEAD_DIM = 32, 8
TOKENS = torch.arange(12)[None]


def build(dim, init=None, **changes):
    arguments = {
        "vocab_size": 50,
        "dim": dim,
        "num_layers": 2,
        "context_length": 16,
        "attention": partial(MultiHeadAttention, num_heads=4, bias=True),
        "init": init or MaximalUpdateInit(base_dim=BASE, base_head_dim=HEAD_DIM, seed=3, std=0.05),
    }
    return Decoder(**(arguments | changes))


VARIANTS = {
    "tied": {},
    "untied": {"tie_embeddings": False},
    "capped": {"attention": partial(MultiHeadAttention, num_heads=4, scores=partial(CappedSoftmax, cap=5.0))},
    "lookahead": {"lookahead": SequentialPrediction},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_at_the_base_width_it_is_the_standard_parametrisation_bit_for_bit(variant):
    ours = build(BASE, **VARIANTS[variant])
    standard = build(BASE, NormalInit(seed=3, std=0.05), **VARIANTS[variant])
    for name, tensor in standard.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    assert torch.equal(ours(TOKENS), standard(TOKENS))
    assert ours.lr_multipliers == standard.lr_multipliers == {}
    assert ours.head.scale == 1.0
    assert ours.blocks[0].attention.scores.scale is None


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("growth", [2, 8])
def test_the_table(growth, tie):
    model = build(BASE * growth, tie_embeddings=tie)
    base = build(BASE, tie_embeddings=tie)
    deviations = {name: parameter.std().item() for name, parameter in base.named_parameters()}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert name not in model.lr_multipliers
            assert torch.all(parameter == (0 if name.endswith("bias") else 1))
        elif name in ("embedding.weight", "head.weight"):
            assert name not in model.lr_multipliers
            assert parameter.std().item() == pytest.approx(0.05, rel=0.03)
        else:
            assert model.lr_multipliers[name] == 1 / growth
            assert parameter.std().item() == pytest.approx(deviations[name] / math.sqrt(growth), rel=0.06), name
    assert model.head.scale == 1 / growth


def test_attention_scale_when_heads_grow_and_when_there_are_more():
    wider = build(4 * BASE)
    assert wider.blocks[1].attention.head_dim == 4 * HEAD_DIM
    # 1 / sqrt(d) of the base, and from there on 1 / d.
    assert wider.blocks[1].attention.scores.scale == pytest.approx(HEAD_DIM**-0.5 / 4)
    more = build(4 * BASE, attention=partial(MultiHeadAttention, num_heads=16))
    assert more.blocks[1].attention.head_dim == HEAD_DIM
    assert more.blocks[1].attention.scores.scale is None, "the base's own"
    stated = partial(MultiHeadAttention, num_heads=4, scores=partial(CappedSoftmax, cap=5.0, scale=0.7))
    assert build(4 * BASE, attention=stated).blocks[0].attention.scores.scale == pytest.approx(0.7 / 4)


def test_attention_scale_of_latent_attention():
    def latent(dim, factor):
        attention = partial(
            LatentAttention,
            num_heads=2,
            latent_dim=16,
            content_dim=6 * factor,
            rotary_dim=2 * factor,
            value_dim=8 * factor,
        )
        return build(dim, attention=attention).blocks[0].attention.scores.scale

    assert latent(BASE, 1) is None
    assert latent(2 * BASE, 2) == pytest.approx(8**-0.5 / 2)


def test_fan_ins_that_do_not_grow_with_dim():
    init = partial(MaximalUpdateInit, base_dim=BASE, base_head_dim=HEAD_DIM, std=0.05, residual_scale=False)
    fixed = {"feedforward": partial(FeedForward, hidden_dim=96)}
    model = build(4 * BASE, init(base_fan_in={"feedforward.down": 96}), **fixed)
    assert "blocks.0.feedforward.down.weight" not in model.lr_multipliers
    assert model.blocks[0].feedforward.down.weight.std().item() == pytest.approx(0.05, rel=0.03)
    assert model.lr_multipliers["blocks.0.feedforward.up.weight"] == 0.25
    unsaid = build(4 * BASE, init(), **fixed)
    assert unsaid.lr_multipliers["blocks.0.feedforward.down.weight"] == 0.25
    wide = build(4 * BASE, init(base_fan_in={"feedforward.down": 12}), **fixed)
    assert wide.lr_multipliers["blocks.1.feedforward.down.weight"] == 1 / 8
    assert wide.blocks[0].feedforward.down.weight.std().item() == pytest.approx(0.05 / math.sqrt(8), rel=0.03)


def test_experts_and_lookahead_are_hidden_layers_too():
    experts = partial(MixtureOfExperts, num_experts=3, experts_per_token=2)
    model = build(2 * BASE, feedforward=experts, lookahead=SequentialPrediction)
    base = build(BASE, feedforward=experts, lookahead=SequentialPrediction)
    stacked = [name for name, parameter in model.named_parameters() if parameter.ndim == 3]
    assert stacked
    ahead = [name for name, p in model.named_parameters() if name.startswith("lookahead.") and p.ndim == 2]
    for name in (*stacked, *ahead):
        assert model.lr_multipliers[name] == 0.5
        ratio = base.get_parameter(name).std() / model.get_parameter(name).std()
        assert ratio.item() == pytest.approx(math.sqrt(2), rel=0.06), name
    assert model.lookahead.blocks[0].attention.scores.scale == pytest.approx(HEAD_DIM**-0.5 / 2)


def test_multipliers_are_set_on_the_meta_device():
    with torch.device("meta"):
        model = build(2 * BASE)
    assert model.lr_multipliers == build(2 * BASE).lr_multipliers != {}
    assert model.head.scale == 0.5


def test_zero_head():
    init = MaximalUpdateInit(base_dim=BASE, base_head_dim=HEAD_DIM, zero_head=True)
    model = build(2 * BASE, init, tie_embeddings=False)
    assert torch.all(model.head.weight == 0)
    assert model.embedding.weight.any()
    assert build(2 * BASE, init).embedding.weight.any(), "a tied head is the embedding"


def test_an_embedding_scale_does_not_grow_with_width():
    scaled = partial(Embedding, scale="sqrt_dim")
    assert build(4 * BASE, embedding=scaled).embedding.scale == math.sqrt(BASE)
    assert build(BASE, embedding=scaled).embedding.scale == "sqrt_dim"
    assert build(4 * BASE, embedding=partial(Embedding, scale=12.0)).embedding.scale == 12.0


def test_head_scale_multiplies_what_was_there():
    assert build(2 * BASE, head=partial(Head, scale=3.0)).head.scale == 1.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaximalUpdateInit(base_dim=0, base_head_dim=8), "base_dim=0 must be greater than 0"),
        (lambda: MaximalUpdateInit(base_dim=8, base_head_dim=0), "base_head_dim=0 must be greater than 0"),
        (
            lambda: MaximalUpdateInit(base_dim=8, base_head_dim=8, base_fan_in={"down": 0}),
            r"base_fan_in\.down=0 must be greater than 0",
        ),
        (
            lambda: build(32, MaximalUpdateInit(base_dim=8, base_head_dim=8, base_fan_in={"dwon": 8})),
            r"base_fan_in\.dwon=8 must be for a part",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lr_multipliers_name_parameters():
    model = build(2 * BASE)
    assert set(model.lr_multipliers) <= dict(model.named_parameters()).keys()
    assert not any(isinstance(value, nn.Parameter) for value in model.lr_multipliers.values())
