"""What position schemes refuse, keep as attributes and are called in conf/."""

import inspect
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

import atomiclm.model
from atomiclm.model import (
    Alibi,
    Decoder,
    DynamicNTK,
    LearnedPosition,
    Llama3Scaling,
    NoPosition,
    NTKAware,
    PositionInterpolation,
    PositionPattern,
    ProportionalRotary,
    RotaryEmbedding,
    Sinusoidal,
    YaRN,
    supply,
)

CONF = Path(__file__).parents[2] / "conf" / "model" / "position"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))
SIZES = {"vocab_size": 50, "dim": 48, "num_layers": 12, "context_length": 64}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(RotaryEmbedding, 15), "head_dim=15 is odd.*position=none"),
        (partial(RotaryEmbedding, 12, rotary_fraction=0.25), "0.25 of head_dim=12 is 3 features.*0.1667 would rotate"),
        (partial(RotaryEmbedding, 6, rotary_fraction=0.1), "is 0 features.*0.3334 would rotate 2"),
        (partial(RotaryEmbedding, 8, rotary_fraction=0.0), "rotary_fraction=0.0 must be greater than 0 and at most 1"),
        (partial(RotaryEmbedding, 8, rotary_fraction=1.5), "rotary_fraction=1.5 must be greater than 0 and at most 1"),
        (partial(RotaryEmbedding, 8, layout="split"), "layout=split must be one of adjacent, half"),
        (partial(RotaryEmbedding, 8, theta=1.0), "theta=1.0 must be greater than 1"),
        (partial(PositionInterpolation, 8, 0.5), "factor=0.5 must be at least 1"),
        (partial(NTKAware, 8, float("nan")), "factor=nan must be at least 1"),
        (partial(NTKAware, 2, 2.0), "2 rotated features, one pair.*at least 4"),
        (partial(DynamicNTK, 8, 2.0), "original_length=None stands for the model's context_length"),
        (partial(DynamicNTK, 8, 0.0, 16), "factor=0.0 must be at least 1"),
        (partial(DynamicNTK, 2, 2.0, 16), "2 rotated features, one pair"),
        (partial(DynamicNTK, 8, 2.0, 0), "original_length=0 must be greater than 0"),
        (partial(Llama3Scaling, 8, 2.0, 16, 4.0, 4.0), "high_frequency_factor=4.0 must be greater than low_freq"),
        (partial(Llama3Scaling, 8, 2.0, 16, 0.0, 4.0), "low_frequency_factor=0.0 must be greater than 0"),
        (partial(Llama3Scaling, 8, float("inf"), original_length=16), "factor=inf must be at least 1"),
        (partial(YaRN, 8, 0.9, 64), "factor=0.9 must be at least 1"),
        (partial(YaRN, 8, 2.0, 64, beta_fast=1.0), "beta_fast=1.0 must be greater than beta_slow=1.0"),
        (partial(YaRN, 8, 2.0, 64, beta_slow=0.0), "beta_slow=0.0 must be greater than 0"),
        (partial(YaRN, 8, 2.0, 6), "original_length=6 is too short.*at least 7"),
        (partial(YaRN, 8, 2.0, 64, mscale=1.0), "mscale=1.0 and mscale_all_dim=None are a pair"),
        (partial(YaRN, 8, 2.0, 64, mscale=1.0, mscale_all_dim=0.0), "mscale_all_dim=0.0 must be greater than 0"),
        (partial(YaRN, 8, 2.0, 64, attention_factor=-1.0), "attention_factor=-1.0 must be greater than 0"),
        (
            partial(YaRN, 8, 2.0, 64, attention_factor=1.1, mscale=1.0, mscale_all_dim=1.0),
            "attention_factor=1.1 and mscale=1.0 both set the temperature",
        ),
        (partial(ProportionalRotary, 8, 0.0), "fraction=0.0 must be greater than 0"),
        (partial(ProportionalRotary, 8, 0.2), "fraction=0.2 of the 4 pairs of head_dim=8 is none.*at least 0.25"),
        (partial(Alibi, 0), "num_heads=0 must be greater than 0"),
        (partial(Sinusoidal, 7), "dim=7 is odd.*make dim even"),
        (partial(Sinusoidal, 8, 0.5), "theta=0.5 must be greater than 1"),
        (partial(LearnedPosition, 8, 0), "context_length=0 must be greater than 0"),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_suggested_fractions_work():
    assert RotaryEmbedding(12, rotary_fraction=0.1667).rotated == 2
    assert RotaryEmbedding(6, rotary_fraction=0.3334).rotated == 2
    assert RotaryEmbedding(15, rotary_fraction=0.4).rotated == 6
    assert ProportionalRotary(8, 0.25).frequencies(8).count_nonzero() == 1


@pytest.mark.parametrize("option", OPTIONS)
def test_every_argument_of_an_option_is_an_attribute(option):
    """Export and the description of a model read them back."""
    node = OmegaConf.load(CONF / f"{option}.yaml")
    supplied = {"head_dim": 12, "num_heads": 4, "dim": 48, "context_length": 64}
    position = supply(instantiate(node), num_layers=12, **supplied)
    given = {key: value for key, value in OmegaConf.to_container(node).items() if not key.startswith("_")}
    named = getattr(atomiclm.model, node["_target_"].rpartition(".")[2])
    assert type(position) is named
    if named is not PositionPattern:
        for name in inspect.signature(named).parameters:
            expected = given.get(name, supplied.get(name))
            if name == "original_length":
                expected = 64  # null stands for context_length
            assert getattr(position, name) == expected, name
    else:
        assert list(position.pattern) == given["pattern"]


def test_original_length_is_the_context_length_unless_given():
    for scheme in (partial(DynamicNTK, factor=2.0), partial(YaRN, factor=2.0), partial(Llama3Scaling, factor=2.0)):
        assert Decoder(**SIZES, position=scheme).position.original_length == 64
        assert Decoder(**SIZES, position=partial(scheme, original_length=32)).position.original_length == 32


def shipped_pattern(name):
    return Decoder(**SIZES, position=instantiate(OmegaConf.load(CONF / f"{name}.yaml")))


@pytest.mark.slow
def test_nope_every_fourth_is_smollm3():
    from transformers import SmolLM3Config

    model = shipped_pattern("nope_every_fourth")
    rotates = [isinstance(model.position.of_layer(layer), RotaryEmbedding) for layer in range(12)]
    assert rotates == [bool(flag) for flag in SmolLM3Config(num_hidden_layers=12).no_rope_layers]
    assert isinstance(model.position.of_layer(3), NoPosition)


def test_local_global_theta_is_gemma3():
    from transformers import Gemma3TextConfig

    model = shipped_pattern("local_global_theta")
    config = Gemma3TextConfig(num_hidden_layers=12)
    thetas = [config.rope_parameters[kind]["rope_theta"] for kind in config.layer_types]
    assert [model.position.of_layer(layer).theta for layer in range(12)] == thetas
    assert {1e4, 1e6} == set(thetas)


def test_printing_says_what_a_scheme_is():
    text = repr(YaRN(16, 4.0, 64, mscale=1.0, mscale_all_dim=0.5))
    for part in ("head_dim=16", "theta=10000.0", "factor=4.0", "original_length=64", "mscale=1.0"):
        assert part in text
    assert repr(ProportionalRotary(16, 0.5, layout="half")).endswith("layout=half, fraction=0.5)")


def test_the_table_is_made_once_a_pass_and_never_kept():
    """One table a scheme, not one a layer; none survives the pass."""
    calls = []

    class Counting(RotaryEmbedding):
        def rotation(self, positions, length):
            calls.append(length)
            return super().rotation(positions, length)

    model = Decoder(**SIZES, position=Counting)
    tokens = torch.zeros(1, 5, dtype=torch.int64)
    model(tokens)
    model(tokens, model.make_cache(1, 9))
    model(torch.zeros(1, 70, dtype=torch.int64))
    assert calls == [64, 64, 70], "the length of a short sequence is the context it may fill"
    assert not list(model.position.buffers()) + list(model.position.parameters())
    assert not any(isinstance(value, torch.Tensor) for value in vars(model.position).values())
