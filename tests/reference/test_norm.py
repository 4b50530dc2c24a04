"""Norms against torch's and transformers' own."""

import warnings
from functools import partial
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from atomiclm.model import LayerNorm, NoNorm, OffsetRMSNorm, RMSNorm
from atomiclm.model.norm import rms_norm

DIM = 24


def features(dtype, seed=0):
    return (3 * torch.randn(4, 5, DIM, generator=torch.Generator().manual_seed(seed)) + 1).to(dtype)


def randomise(*modules):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameters in zip(*(module.parameters() for module in modules), strict=True):
            values = torch.randn(DIM, generator=generator)
            for parameter in parameters:
                parameter.copy_(values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("eps", [1e-6, 0.1])
@pytest.mark.parametrize("learned", [True, False])
def test_equal_to_torch_bit_for_bit(dtype, eps, learned):
    pairs = (
        (RMSNorm(DIM, eps, gain=learned), nn.RMSNorm(DIM, eps, elementwise_affine=learned)),
        (LayerNorm(DIM, eps, bias=learned, gain=learned), nn.LayerNorm(DIM, eps, elementwise_affine=learned)),
        (LayerNorm(DIM, eps, bias=False), nn.LayerNorm(DIM, eps, bias=False)),
    )
    for ours, theirs in pairs:
        randomise(ours, theirs)
        assert torch.equal(ours.to(dtype)(features(dtype)), theirs.to(dtype)(features(dtype)))


@pytest.mark.parametrize("eps", [1e-6, 0.1])
@pytest.mark.parametrize(
    ("ours", "family", "theirs"),
    [
        (RMSNorm, "llama", "LlamaRMSNorm"),
        (OffsetRMSNorm, "gemma2", "Gemma2RMSNorm"),
        (partial(LayerNorm, bias=False), "cohere", "CohereLayerNorm"),
    ],
    ids=["llama", "gemma2", "cohere"],
)
def test_equal_to_transformers_with_gradients(ours, family, theirs, eps):
    """Theirs are float32 inside, whatever comes in."""
    theirs = getattr(import_module(f"transformers.models.{family}.modeling_{family}"), theirs)
    ours, theirs = ours(DIM, eps=eps), theirs(DIM, eps=eps)
    randomise(ours, theirs)
    results = []
    for norm in (ours, theirs):
        hidden = features(torch.float32).requires_grad_()
        result = norm(hidden)
        gradients = torch.autograd.grad((result * features(torch.float32, 2)).sum(), [hidden, *norm.parameters()])
        results.append([result, *gradients])
    for mine, other in zip(*results, strict=True):
        assert (mine - other).abs().max() < 2e-6 * other.abs().max()


def test_layer_norm_without_parameters_is_olmos():
    from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

    assert (
        LayerNorm(DIM, bias=False, gain=False)(features(torch.float32)) - OlmoLayerNorm(DIM)(features(torch.float32))
    ).abs().max() < 1e-6


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_offset_norm_is_rms_norm_with_one_more(shift):
    offset, plain = OffsetRMSNorm(DIM).double(), RMSNorm(DIM).double()
    with torch.no_grad():
        offset.weight += shift
        plain.weight += shift
    assert torch.equal(offset(features(torch.float64)), plain(features(torch.float64)))
    assert torch.all(OffsetRMSNorm(DIM).weight == 0)


def test_parameters_are_what_the_arguments_say():
    def names(norm):
        return [name for name, _ in norm.named_parameters()]

    assert names(RMSNorm(DIM)) == names(OffsetRMSNorm(DIM)) == ["weight"]
    assert names(LayerNorm(DIM)) == ["weight", "bias"]
    assert names(LayerNorm(DIM, gain=False)) == ["bias"]
    assert names(RMSNorm(DIM, gain=False)) == names(NoNorm()) == names(LayerNorm(DIM, bias=False, gain=False)) == []


@pytest.mark.parametrize("norm", [RMSNorm(DIM), OffsetRMSNorm(DIM), LayerNorm(DIM), LayerNorm(DIM, gain=False)])
def test_a_branch_in_bfloat16_meets_float32_parameters(norm):
    """What a sandwich norm meets under autocast: no fallback to a slow kernel (torch warns), nothing lost."""
    narrow = features(torch.bfloat16)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        result = norm(narrow)
    assert result.dtype == torch.float32
    assert torch.equal(result, norm(narrow.float()))


def test_no_norm_does_nothing():
    hidden = features(torch.bfloat16)
    assert NoNorm()(hidden) is hidden


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_our_own_is_that_of_torch(dtype):
    hidden = torch.randn(3, 5, DIM, dtype=dtype).transpose(0, 1).requires_grad_()
    gain = torch.randn(DIM, dtype=dtype, requires_grad=True)
    upstream = torch.randn(5, 3, DIM, dtype=dtype)
    own, expected = rms_norm(hidden, gain, 1e-3), F.rms_norm(hidden, (DIM,), gain, 1e-3)
    assert "RMSNormOnCPU" in own.grad_fn.name()
    assert torch.equal(own, expected)
    pairs = zip(*(torch.autograd.grad(normed, (hidden, gain), upstream) for normed in (own, expected)), strict=True)
    for ours, theirs in pairs:
        assert (ours - theirs).abs().max() < 50 * torch.finfo(dtype).eps * theirs.abs().max()
