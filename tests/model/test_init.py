"""Initial weights are a function of (seed, parameter name) alone."""

import math
from functools import partial

import pytest
import torch

from atomiclm.model import Decoder, FeedForward, LayerNorm, LearnedPosition, MultiHeadAttention, NormalInit

SIZES = {"vocab_size": 300, "dim": 64, "num_layers": 2, "context_length": 32}


def weights(**changes):
    return Decoder(**(SIZES | changes)).state_dict()


def test_adding_things_moves_no_other_tensor():
    base = weights(init=NormalInit(residual_scale=False))
    additions = {"num_layers": 5}, {"tie_embeddings": False}, {"position": LearnedPosition}, {"context_length": 99}
    for changes in additions:
        richer = weights(init=NormalInit(residual_scale=False), **changes)
        assert all(torch.equal(base[name], richer[name]) for name in base)
    plain = weights(init=NormalInit(residual_scale=False), feedforward=FeedForward)
    shared = [name for name in base if "feedforward." not in name]
    assert all(torch.equal(base[name], plain[name]) for name in shared)


def test_every_tensor_has_numbers_of_its_own():
    state = weights(tie_embeddings=False)
    drawn = {name: tensor.flatten()[:8] for name, tensor in state.items() if tensor.ndim == 2}
    scaled = {tuple((values / values.abs().max()).tolist()) for values in drawn.values()}
    assert len(scaled) == len(drawn) == 2 + 2 * 7


def test_seed_decides_and_the_same_seed_repeats():
    first, again, other = (weights(init=NormalInit(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first if first[name].ndim == 2)


def test_spread_of_each_role():
    layers, std = 8, 0.05
    model = Decoder(
        vocab_size=300,
        dim=128,
        num_layers=layers,
        context_length=64,
        attention=partial(MultiHeadAttention, num_heads=4, bias=True),
        norm=LayerNorm,
        position=LearnedPosition,
        tie_embeddings=False,
        init=NormalInit(std=std),
    )
    residual = 0
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert torch.all(parameter == 0), name
        elif "norm" in name:
            assert torch.all(parameter == 1), name
        else:
            written = name.endswith(("output.weight", "down.weight"))
            residual += written
            expected = std / math.sqrt(2 * layers) if written else std
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
            assert abs(parameter.mean().item()) < 0.05 * std, name
    assert residual == 2 * layers


def test_std_scales_the_same_draw():
    narrow, wide = weights(init=NormalInit(std=0.02)), weights(init=NormalInit(std=0.04))
    name = "blocks.0.attention.query.weight"
    assert torch.equal(2 * narrow[name], wide[name])


def test_building_leaves_the_global_random_state_alone():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        before = torch.get_rng_state()
        first = weights()
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(6)
        second = weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_default_init_is_the_depth_scaled_one_of_seed_0():
    default, stated = weights(), weights(init=NormalInit(seed=0, std=0.02, residual_scale=True))
    assert all(torch.equal(default[name], stated[name]) for name in default)


def test_builds_on_the_meta_device():
    with torch.device("meta"):
        model = Decoder(**SIZES)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.num_parameters() == Decoder(**SIZES).num_parameters()


def test_std_must_be_positive():
    with pytest.raises(ValueError, match=r"std=0\.0 must be greater than 0"):
        NormalInit(std=0.0)
