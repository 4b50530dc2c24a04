"""Frequencies and attention factors of every rope scaling equal transformers' tables, on random settings."""

import math
import random
from itertools import pairwise

import pytest
import torch

from atomiclm.model import (
    DynamicNTK,
    Llama3Scaling,
    NTKAware,
    PositionInterpolation,
    ProportionalRotary,
    RotaryEmbedding,
    YaRN,
)

SETTINGS = 20


def theirs(rope_type, head_dim, theta, seq_len=None, original_length=64, **parameters):
    """Transformers' (frequencies, attention factor)."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": rope_type, "rope_theta": theta, **parameters}
    if rope_type in ("yarn", "llama3"):
        rope["original_max_position_embeddings"] = original_length
    config = LlamaConfig(
        hidden_size=head_dim,
        num_attention_heads=1,
        head_dim=head_dim,
        max_position_embeddings=original_length,
        rope_parameters=rope,
    )
    return ROPE_INIT_FUNCTIONS[rope_type](config, torch.device("cpu"), seq_len=seq_len)


def drawn(seed):
    """A head width, a theta and a share of rotated features that leaves at least two pairs."""
    draw = random.Random(seed)
    head_dim = 2 * draw.randint(4, 64)
    rotated = 2 * draw.randint(2, head_dim // 2)
    theta = 10 ** draw.uniform(2, 7)
    fraction = draw.choice([1.0, (rotated + 0.5) / head_dim if rotated < head_dim else 1.0])
    return draw, head_dim, theta, fraction


def assert_equal(ours, length, expected):
    """Bit-equal, being the same float32 operations in the same order, but for one."""
    frequencies, attention_factor = expected
    assert frequencies.dtype == torch.float32
    if isinstance(ours, ProportionalRotary):
        # Transformers takes the power of the turning pairs alone, and torch.pow's vectorised loop and its remainder
        # differ in the last bit, so where the loop ends matters: one unit in the last place, 2^-23.
        torch.testing.assert_close(ours.frequencies(length), frequencies, rtol=2**-23, atol=0)
        assert torch.equal(ours.frequencies(length) == 0, frequencies == 0)
    else:
        assert torch.equal(ours.frequencies(length), frequencies)
    assert ours.rotation_scale == attention_factor


def in_one_process(build):
    """All settings one after another and the first again: nothing kept from one answers for another."""
    tables = []
    for seed in (*range(SETTINGS), 0):
        ours, lengths_and_references = build(seed)
        for length, reference in lengths_and_references:
            assert_equal(ours, length, reference)
        tables.append(ours.frequencies(lengths_and_references[-1][0]))
    assert torch.equal(tables[0], tables[-1])
    assert all(not torch.equal(first, second) for first, second in pairwise(tables))


def test_position_interpolation_equals_linear():
    def build(seed):
        draw, head_dim, theta, fraction = drawn(seed)
        factor = draw.uniform(1, 40)
        ours = PositionInterpolation(head_dim, factor, theta=theta, rotary_fraction=fraction)
        return ours, [(10, theirs("linear", head_dim, theta, factor=factor, partial_rotary_factor=fraction))]

    in_one_process(build)


def test_ntk_aware_equals_dynamic_at_factor_times_the_length():
    """With a factor of 1, transformers' dynamic scaling at ``n`` times the original length is the fixed one by n."""

    def build(seed):
        draw, head_dim, theta, fraction = drawn(seed)
        times = draw.randint(2, 40)
        reference = theirs("dynamic", head_dim, theta, 64 * times, 64, factor=1.0, partial_rotary_factor=fraction)
        return NTKAware(head_dim, times, theta=theta, rotary_fraction=fraction), [(10, reference)]

    in_one_process(build)


def test_dynamic_ntk_equals_dynamic_at_several_lengths():
    def build(seed):
        draw, head_dim, theta, fraction = drawn(seed)
        factor, original = draw.uniform(1, 8), draw.randint(16, 4096)
        lengths = [1, original, original + 1, draw.randint(original, 40 * original), 17 * original]
        ours = DynamicNTK(head_dim, factor, original, theta=theta, rotary_fraction=fraction)
        settings = {"factor": factor, "partial_rotary_factor": fraction}
        references = [(n, theirs("dynamic", head_dim, theta, n, original, **settings)) for n in lengths]
        assert torch.equal(references[0][1][0], references[1][1][0])
        assert not torch.equal(references[1][1][0], references[3][1][0])
        return ours, references

    in_one_process(build)


def test_yarn_equals_yarn():
    def build(seed):
        draw, head_dim, theta, fraction = drawn(seed)
        factor, original = draw.uniform(1, 40), draw.randint(64, 16384)
        slow = draw.uniform(0.5, 4)
        chosen = {"beta_slow": slow, "beta_fast": slow + draw.uniform(1, 40), "truncate": draw.random() < 0.5}
        chosen |= draw.choice(
            [
                {},
                {"attention_factor": draw.uniform(0.5, 2)},
                {"mscale": draw.uniform(0.1, 2), "mscale_all_dim": draw.uniform(0.1, 2)},
            ]
        )
        ours = YaRN(head_dim, factor, original, theta=theta, rotary_fraction=fraction, **chosen)
        parameters = {"factor": factor, "partial_rotary_factor": fraction, **chosen}
        return ours, [(10, theirs("yarn", head_dim, theta, original_length=original, **parameters))]

    in_one_process(build)


def test_yarn_defaults_equal_transformers_defaults():
    assert_equal(YaRN(128, 16.0, 4096), 10, theirs("yarn", 128, 10000.0, original_length=4096, factor=16.0))
    assert YaRN(128, 16.0, 4096).rotation_scale == pytest.approx(0.1 * math.log(16) + 1, abs=0)


def test_score_scale_equals_deepseeks():
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import yarn_apply_mscale

    for factor, mscale in ((40.0, 1.0), (40.0, 0.707), (1.0, 1.0), (3.0, 0.3)):
        rope = YaRN(64, factor, 4096, mscale=mscale, mscale_all_dim=mscale)
        parameters = {"rope_type": "yarn", "factor": factor, "mscale_all_dim": mscale}
        assert rope.score_scale == pytest.approx(yarn_apply_mscale(parameters, 1.0), rel=1e-15)
        assert rope.rotation_scale == 1.0
    assert YaRN(64, 40.0, 4096).score_scale == 1.0
    assert RotaryEmbedding(64).score_scale == 1.0


def test_llama3_scaling_equals_llama3():
    def build(seed):
        draw, head_dim, theta, fraction = drawn(seed)
        factor, original, low = draw.uniform(1, 40), draw.randint(16, 16384), draw.uniform(0.2, 3)
        high = low + draw.uniform(0.1, 8)
        ours = Llama3Scaling(head_dim, factor, original, low, high, theta=theta, rotary_fraction=fraction)
        parameters = {"factor": factor, "low_freq_factor": low, "high_freq_factor": high}
        parameters |= {"partial_rotary_factor": fraction}
        return ours, [(10, theirs("llama3", head_dim, theta, original_length=original, **parameters))]

    in_one_process(build)


def test_llama3_at_meta_s_values():
    frequencies = Llama3Scaling(128, 8.0, original_length=8192).frequencies(10)
    parameters = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    assert torch.equal(frequencies, theirs("llama3", 128, 500000.0, original_length=8192, **parameters)[0])
    assert frequencies[-1].item() == pytest.approx(3.0689e-07, rel=1e-4)


def test_proportional_rotary_equals_proportional():
    def build(seed):
        draw, head_dim, theta, _ = drawn(seed)
        fraction = draw.choice([1.0, draw.uniform(2 / head_dim, 1)])
        reference = theirs("proportional", head_dim, theta, partial_rotary_factor=fraction)
        return ProportionalRotary(head_dim, fraction, theta=theta), [(10, reference)]

    in_one_process(build)


@pytest.mark.parametrize("fraction", [0.3, 0.41, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_partial_rotation_equals_gpt_neox(fraction, dtype):
    """The whole of it: table, which features turn, and how they are paired."""
    from transformers import GPTNeoXConfig
    from transformers.models.gpt_neox import modeling_gpt_neox as neox

    rope = {"rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": fraction}
    config = GPTNeoXConfig(hidden_size=80, num_attention_heads=4, rope_parameters=rope)
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 3, 4, 11, 20, generator=generator, dtype=dtype)
    positions = torch.arange(11)
    cosines, sines = neox.GPTNeoXRotaryEmbedding(config)(query, positions[None])
    ours = RotaryEmbedding(20, theta=700.0, rotary_fraction=fraction, layout="half")
    table = ours.rotation(positions, 11)
    tolerance = 1e-15 if dtype == torch.float64 else 5e-7
    for vectors, expected in zip(
        (query, key), neox.apply_rotary_pos_emb(query, key, cosines, sines, unsqueeze_dim=1), strict=True
    ):
        assert (ours.rotate(vectors, table) - expected).abs().max() <= tolerance
