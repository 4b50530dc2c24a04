"""Single components against torch's and transformers' own."""

import math

import pytest
import torch
from torch import nn

from atomiclm.model import Decoder, LayerNorm, RMSNorm, RotaryEmbedding, cross_entropy


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_norms_equal_torch_modules(dtype, eps):
    generator = torch.Generator().manual_seed(0)
    hidden = (3 * torch.randn(4, 5, 32, generator=generator) + 1).to(dtype)
    for ours, theirs in ((RMSNorm(32, eps), nn.RMSNorm(32, eps)), (LayerNorm(32, eps), nn.LayerNorm(32, eps))):
        with torch.no_grad():
            for parameter, counterpart in zip(ours.parameters(), theirs.parameters(), strict=True):
                parameter.copy_(torch.randn(32, generator=generator))
                counterpart.copy_(parameter)
        assert torch.equal(ours.to(dtype)(hidden), theirs.to(dtype)(hidden))


def test_rms_norm_is_its_equation():
    hidden = torch.randn(3, 7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm = RMSNorm(16, eps=0.01).double()
    norm.weight.data.uniform_(generator=torch.Generator().manual_seed(1))
    expected = hidden / (hidden.pow(2).mean(-1, keepdim=True) + 0.01).sqrt() * norm.weight
    assert (norm(hidden) - expected).abs().max() < 1e-14


@pytest.mark.parametrize("theta", [10000.0, 500.0])
def test_rotary_table_equals_llama_bit_for_bit(theta):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=64, num_attention_heads=2, rope_parameters={"rope_type": "default", "rope_theta": theta}
    )
    positions = torch.arange(5000)
    cosine, sine = LlamaRotaryEmbedding(config)(torch.zeros(1, dtype=torch.float32), positions[None])
    table = RotaryEmbedding(32, theta=theta).rotation(positions, 8)
    assert table.dtype == torch.float32
    assert torch.equal(table[..., 0], cosine[0, :, :16])
    assert torch.equal(table[..., 1], sine[0, :, :16])


def test_angles_stay_float32_under_autocast():
    positions = torch.arange(300, 400)
    rope = RotaryEmbedding(16)
    expected = rope.rotation(positions, 8)
    with torch.autocast("cpu", torch.bfloat16):
        table = rope.rotation(positions, 8)
        turned = rope.rotate(torch.ones(1, 1, 100, 16, dtype=torch.bfloat16), table)
    assert torch.equal(table, expected)
    assert turned.dtype == torch.bfloat16
    # Neighbouring positions are one bfloat16 number at 300; their vectors must still differ.
    assert (turned[0, 0, 1:] - turned[0, 0, :-1]).abs().amax(-1).min() > 0.5


def test_loss_is_float32_sum_of_what_counts():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(3, 5, 11, generator=generator)
    targets = torch.randint(11, (3, 5), generator=generator)
    mask = torch.rand(3, 5, generator=generator) < 0.6
    each = cross_entropy(logits, targets, reduction="none")
    expected = -logits.double().log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    assert (each - expected).abs().max() < 1e-5
    assert cross_entropy(logits, targets).item() == pytest.approx(expected.sum().item(), rel=1e-6)
    assert cross_entropy(logits, targets, mask).item() == pytest.approx(expected[mask].sum().item(), rel=1e-6)
    assert torch.equal(cross_entropy(logits, targets, mask, reduction="none") == 0, ~mask)
    assert cross_entropy(logits, targets, torch.zeros_like(mask)).item() == 0
    low = logits.bfloat16()
    assert cross_entropy(low, targets).dtype == torch.float32
    assert torch.equal(cross_entropy(low, targets), cross_entropy(low.float(), targets))
    assert cross_entropy(logits.double(), targets).dtype == torch.float64


def test_masked_targets_give_no_gradient_and_micro_batches_add_up():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (4, 5), generator=generator)
    mask = torch.rand(4, 5, generator=generator) < 0.5
    (whole,) = torch.autograd.grad(cross_entropy(logits, targets, mask), logits)
    assert torch.all(whole[~mask] == 0)
    halves = sum(cross_entropy(logits[rows], targets[rows], mask[rows]) for rows in (slice(0, 1), slice(1, 4)))
    (added,) = torch.autograd.grad(halves, logits)
    assert (whole - added).abs().max() < 1e-15


def test_loss_of_a_new_model_is_near_uniform():
    model = Decoder(vocab_size=512, dim=64, num_layers=2, context_length=32)
    tokens = torch.randint(512, (4, 33), generator=torch.Generator().manual_seed(0))
    loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]) / tokens[:, 1:].numel()
    assert loss.item() == pytest.approx(math.log(512), abs=0.05)
