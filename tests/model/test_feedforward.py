"""What the feed-forward options are, refuse and do."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from atomiclm.model import (
    GEGLU,
    GLU,
    Bilinear,
    ClampedSwiGLU,
    FeedForward,
    GatedFeedForward,
    MixtureOfExperts,
    ReGLU,
    SwiGLU,
)

OPTIONS = Path(__file__).parents[2] / "conf" / "model" / "feedforward"
DENSE = {
    "relu": (FeedForward, "relu"),
    "gelu": (FeedForward, "gelu"),
    "gelu_tanh": (FeedForward, "gelu_tanh"),
    "silu": (FeedForward, "silu"),
    "relu_squared": (FeedForward, "relu_squared"),
    "swiglu": (SwiGLU, "silu"),
    "geglu": (GEGLU, "gelu"),
    "reglu": (ReGLU, "relu"),
    "glu": (GLU, "sigmoid"),
    "bilinear": (Bilinear, "identity"),
}


def built(option, dim=24, **arguments):
    return instantiate(OmegaConf.load(OPTIONS / f"{option}.yaml"))(dim, **arguments)


@pytest.mark.parametrize("option", DENSE)
def test_an_option_is_the_network_it_is_named_after(option):
    network = built(option)
    assert (type(network), network.activation) == DENSE[option]
    assert (network.dim, network.hidden_dim, network.bias) == (
        24,
        64 if isinstance(network, GatedFeedForward) else 96,
        False,
    )
    biased = built(option, bias=True, hidden_dim=10)
    assert biased.bias
    assert all(linear.bias is not None for linear in (biased.up, biased.down))
    assert biased.up.weight.shape == (10, 24)


def test_no_two_options_are_the_same_function():
    hidden = 2 * torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    networks = {option: built(option, hidden_dim=48) for option in DENSE} | {"tanh": GEGLU(24, 48, "gelu_tanh")}
    generator = torch.Generator().manual_seed(1)
    weights = {part: torch.randn(48, 24, generator=generator) for part in ("gate", "up", "down")}
    outputs = {}
    for option, network in networks.items():
        for part, linear in network.named_children():
            linear.weight.data.copy_(weights[part].T if part == "down" else weights[part])
        outputs[option] = network(hidden)
    for (one, first), (other, second) in combinations(outputs.items(), 2):
        assert (first - second).abs().max() > 1e-3, (one, other)


def test_the_clamped_option_is_that_of_gpt_oss():
    network = built("swiglu_clamped")
    assert isinstance(network, ClampedSwiGLU)
    assert (network.alpha, network.limit, network.hidden_dim) == (1.702, 7.0, 64)


def test_mixtures_are_what_their_comments_say():
    mixture = built("moe", dim=96)
    assert (mixture.num_experts, mixture.experts_per_token, mixture.num_shared_experts) == (8, 2, 0)
    assert (type(mixture.router).__name__, mixture.router.normalize) == ("SoftmaxTopK", True)
    assert (mixture.balance_weight, mixture.router_z_weight) == (0.01, 0.001)
    shared = built("moe_shared", dim=96)
    assert (shared.num_experts, shared.experts_per_token, shared.num_shared_experts) == (16, 3, 1)
    assert (type(shared.router).__name__, shared.router.bias_rate) == ("SigmoidTopK", 0.001)
    for network in (mixture, shared):
        assert isinstance(network, MixtureOfExperts)
        routed = network.num_active_parameters() - network.router.projection.weight.numel()
        assert routed == 3 * 96 * SwiGLU(96).hidden_dim, "a token's experts cost what swiglu costs"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeedForward(8, 0), "hidden_dim=0 must be greater than 0"),
        (lambda: FeedForward(8, activation="tanh"), "activation=tanh must be one of gelu, gelu_tanh"),
        (lambda: GatedFeedForward(8, activation="swish"), "activation=swish must be one of gelu"),
        (lambda: SwiGLU(8, multiple_of=0), "multiple_of=0 must be greater than 0"),
        (lambda: GLU(8, hidden_dim=-1), "hidden_dim=-1 must be greater than 0"),
        (lambda: ClampedSwiGLU(8, limit=0.0), "limit=0.0 must be greater than 0"),
        (lambda: ClampedSwiGLU(8, alpha=-1.0), "alpha=-1.0 must be greater than 0"),
        (lambda: GEGLU(8, activation="silu"), "activation=silu must be one of gelu, gelu_tanh"),
    ],
)
def test_refusals_name_the_argument_and_the_fix(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("network", [SwiGLU, GEGLU, ReGLU, GLU, Bilinear, ClampedSwiGLU])
@pytest.mark.parametrize(("dim", "multiple_of"), [(64, 8), (100, 1), (192, 32)])
def test_two_thirds_rule_gives_the_parameters_of_a_plain_network(network, dim, multiple_of):
    gated, plain = (sum(weight.numel() for weight in module.parameters())
                    for module in (network(dim, multiple_of=multiple_of), FeedForward(dim)))  # fmt: skip
    assert 0 <= gated - plain < 3 * dim * multiple_of
    assert network(dim, multiple_of=multiple_of).hidden_dim % multiple_of == 0
