"""ALiBi against Bloom and MPT, sinusoids against XLM's table."""

import pytest
import torch

from atomiclm.model import Alibi, CausalMask, Sinusoidal

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 6, 7, 8, 12, 16, 20, 25, 40])
def test_alibi_equals_bloom_and_mpt_up_to_a_constant_a_row(num_heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

    time = 50
    mask = CausalMask(time, time, CPU)
    allowed = mask.allowed()
    bias = Alibi(num_heads).bias(mask)
    assert bias.dtype == torch.float32
    bloom = build_alibi_tensor(torch.ones(1, time, dtype=torch.int64), num_heads, torch.float32)
    for reference in (bloom, build_mpt_alibi_tensor(num_heads, time)):
        difference = (bias - reference).masked_fill(~allowed, torch.nan)
        spread = difference.nan_to_num(nan=-torch.inf).amax(-1) - difference.nan_to_num(nan=torch.inf).amin(-1)
        assert spread.abs().max() < 2e-5
        ours, theirs = (scores.masked_fill(~allowed, -torch.inf).softmax(-1) for scores in (bias, bias - difference))
        assert (ours - theirs)[..., allowed].abs().max() < 1e-5


@pytest.mark.parametrize("num_heads", [3, 8])
def test_alibi_of_a_cached_step_is_a_part_of_the_whole(num_heads):
    alibi = Alibi(num_heads)
    whole = alibi.bias(CausalMask(12, 12, CPU))
    assert torch.equal(alibi.bias(CausalMask(5, 12, CPU)), whole[:, 7:])
    assert torch.all(whole.diagonal(dim1=1, dim2=2) == 0)


@pytest.mark.parametrize(("dim", "positions"), [(24, 300), (6, 40)])
def test_sinusoids_equal_xlm(dim, positions):
    from transformers.models.xlm.modeling_xlm import create_sinusoidal_embeddings

    expected = create_sinusoidal_embeddings(positions, dim, torch.empty(positions, dim))
    hidden = torch.zeros(1, positions, dim)
    ours = Sinusoidal(dim).embed(hidden, torch.arange(positions))
    # Theirs has float64 angles, ours float32 ones: 300 radians are good to 2e-5.
    assert (ours[0] - expected).abs().max() < 3e-5
    assert (Sinusoidal(dim, theta=500.0).embed(hidden, torch.arange(positions))[0] - expected).abs().max() > 0.5
