"""Laws of rotations and biases by themselves, without a model."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from atomiclm.model import (
    Alibi,
    CausalMask,
    DynamicNTK,
    Llama3Scaling,
    NTKAware,
    PositionInterpolation,
    ProportionalRotary,
    RotaryEmbedding,
    YaRN,
)
from atomiclm.model.rope import rotate_adjacent, rotate_adjacent_real

CONTEXT = 16
ROTARY = {
    "full": RotaryEmbedding,
    "half": partial(RotaryEmbedding, layout="half"),
    "partial": partial(RotaryEmbedding, rotary_fraction=0.5),
    "partial_half": partial(RotaryEmbedding, rotary_fraction=0.5, layout="half"),
    "interpolation": partial(PositionInterpolation, factor=3.0),
    "ntk": partial(NTKAware, factor=3.0),
    "dynamic": partial(DynamicNTK, factor=2.0, original_length=CONTEXT),
    "yarn": partial(YaRN, factor=4.0, original_length=CONTEXT),
    "llama3": partial(Llama3Scaling, factor=8.0, original_length=CONTEXT, theta=100.0),
    "proportional": partial(ProportionalRotary, fraction=0.5),
}
every_rotary = pytest.mark.parametrize("name", ROTARY)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@every_rotary
@settings(max_examples=15, deadline=None, derandomize=True)
@given(shift=st.integers(0, 2000), distance=st.integers(0, 200))
def test_scores_depend_on_the_difference_only(name, shift, distance):
    rope = ROTARY[name](16)
    query, key = normal(2, 1, 1, 1, 16, seed=distance)

    def score(query_position, key_position):
        turned = rope.rotate(query, rope.rotation(torch.tensor([query_position]), 64))
        return (turned * rope.rotate(key, rope.rotation(torch.tensor([key_position]), 64))).sum().item()

    # Angles are float32: at position 2000 they are good to 1e-4.
    assert score(shift + distance, shift) == pytest.approx(score(distance, 0), abs=1e-2)
    assert score(distance, 0) != pytest.approx(score(distance + 1, 0), abs=1e-6)


@every_rotary
def test_a_turn_keeps_the_norm_up_to_the_scheme_s_scale(name):
    rope = ROTARY[name](16)
    vectors = normal(2, 3, 9, 16)
    turned = rope.rotate(vectors, rope.rotation(torch.arange(9), 64))
    part = slice(0, rope.rotated)
    ratio = turned[..., part].norm(dim=-1) / vectors[..., part].norm(dim=-1)
    assert (ratio - rope.rotation_scale).abs().max() < 1e-6
    assert torch.equal(turned[..., rope.rotated :], vectors[..., rope.rotated :])
    assert (turned[:, :, 1:, part] - vectors[:, :, 1:, part]).abs().amax(-1).min() > 1e-2
    assert (rope.rotation_scale != 1) == (name == "yarn")


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("documents", [False, True])
def test_layouts_are_one_function_after_a_permutation(fraction, documents):
    """Values and gradients, of queries and of the projections that made them."""
    adjacent, half = (
        RotaryEmbedding(24, theta=300.0, rotary_fraction=fraction, layout=layout) for layout in ("adjacent", "half")
    )
    positions = torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]]) if documents else torch.arange(5)
    order = torch.cat((torch.arange(0, adjacent.rotated, 2), torch.arange(1, adjacent.rotated, 2)))
    order = torch.cat((order, torch.arange(adjacent.rotated, 24)))
    vectors, direction = normal(2, 2, 3, 5, 24)
    leaves = vectors.clone().requires_grad_(), vectors[..., order].clone().requires_grad_()
    first = adjacent.rotate(leaves[0], adjacent.rotation(positions, 5))
    second = half.rotate(leaves[1], half.rotation(positions, 5))
    assert (first[..., order] - second).abs().max() < 1e-14
    (first * direction).sum().backward()
    (second * direction[..., order]).sum().backward()
    assert (leaves[0].grad[..., order] - leaves[1].grad).abs().max() < 1e-14
    assert (first - second).abs().max() > 0.1, "without the permutation they differ"


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    pairs=st.integers(1, 9),
    offset=st.integers(0, 3),
    extra=st.integers(0, 3),
    wide=st.booleans(),
    by_row=st.booleans(),
)
def test_complex_and_real_arithmetic_agree(pairs, offset, extra, wide, by_row):
    """What runs against the formulation that is compiled, whatever the strides: slices that begin at odd features."""
    dtype = torch.float64 if wide else torch.float32
    rope = RotaryEmbedding(2 * pairs)
    positions = torch.arange(10).view(2, 5) if by_row else torch.arange(5)
    table = rope.rotation(positions, 5)
    whole = normal(2, 5, 3, offset + 2 * pairs + extra).to(dtype)
    results = []
    for turn in (rotate_adjacent, rotate_adjacent_real):
        leaf = whole.clone().requires_grad_()
        turned = turn(leaf.transpose(1, 2)[..., offset : offset + 2 * pairs], table)
        (turned * torch.arange(2 * pairs, dtype=dtype)).sum().backward()
        results.append((turned, leaf.grad))
    tolerance = 1e-14 if wide else 3e-6
    for first, second in zip(*results, strict=True):
        assert (first - second).abs().max() < tolerance * 2 * pairs


def test_rotate_gives_the_same_when_compiled(monkeypatch):
    """`torch.compiler.is_compiling` decides between the two; nothing else may depend on it."""
    rope, vectors = RotaryEmbedding(12, rotary_fraction=0.5), normal(1, 2, 7, 12)
    table = rope.rotation(torch.arange(7), 7)
    eager = rope.rotate(vectors, table)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch, "view_as_complex", None)
    assert (rope.rotate(vectors, table) - eager).abs().max() < 1e-15


def test_interpolation_turns_position_t_as_a_plain_t_over_factor():
    squeezed, plain = PositionInterpolation(16, 4.0), RotaryEmbedding(16)
    assert torch.equal(squeezed.rotation(4 * torch.arange(50), 8), plain.rotation(torch.arange(50), 8))


def test_ntk_stretches_the_slowest_pair_by_the_factor_and_keeps_the_fastest():
    plain, scaled = RotaryEmbedding(32).frequencies(8), NTKAware(32, 5.0).frequencies(8)
    assert scaled[0] == plain[0]
    assert scaled[-1].item() == pytest.approx(plain[-1].item() / 5, rel=1e-6)


def test_least_theta_for_a_context():
    """The least theta whose scores of equal queries and keys, ``sum_i cos(m theta^(-2i / d))``, stay above 0 for m < L.

    Men et al. 2024, arXiv 2405.14591; for head_dim 128 recomputed by Su (kexue.fm/10122): 4.3e3 at 1024 tokens. The
    thetas above it that work are no interval, so the first one is searched in steps of 0.2 %.
    """

    def least_sum(theta, length):
        rope = RotaryEmbedding(128, theta=theta)
        ones = torch.ones(1, 1, length, 128, dtype=torch.float64)
        turned = rope.rotate(ones, rope.rotation(torch.arange(length), length))[0, 0]
        return (turned @ turned[0]).min().item()

    thetas = [2000 * 1.002**step for step in range(500)]
    first = next(theta for theta in thetas if least_sum(theta, 1024) >= 0)
    assert first == pytest.approx(4.3e3, rel=0.01)


def test_alibi_bias_in_bfloat16_is_good_where_attention_is():
    """Attention brings the bias to the dtype of its scores; the docstring says what that costs."""
    for heads in (6, 8):
        bias = Alibi(heads).bias(CausalMask(1024, 1024, torch.device("cpu")))
        error = (bias.bfloat16().float() - bias).abs()
        assert error[bias.abs() < 16].max() <= 0.03125
        assert (error <= 2**-8 * bias.abs()).all()
    assert torch.all(error[:, torch.arange(1024), torch.arange(1024)] == 0)
    near = CausalMask(257, 257, torch.device("cpu"))
    assert torch.equal(Alibi(8).bias(near).bfloat16().float(), Alibi(8).bias(near))


def test_alibi_counts_distances_because_they_survive_bfloat16():
    """In bfloat16 attention a rounded bias costs nothing on top of the rest; Bloom's ``slope * key`` would."""
    time = 1024
    mask = CausalMask(time, time, torch.device("cpu"))
    bias = Alibi(3).bias(mask)
    by_key = (bias[:, -1:] - bias[:, -1:, :1]).expand_as(bias)
    query, key, value = normal(3, 1, 3, time, 16).bfloat16()

    def attend(bias, *vectors):
        masked = torch.where(mask.allowed(), bias, -torch.inf).to(vectors[0].dtype)
        return F.scaled_dot_product_attention(*vectors, attn_mask=masked).double()

    exact = attend(bias.double(), query.double(), key.double(), value.double())
    error = {name: (attend(each, query, key, value) - exact).std() for name, each in (("d", bias), ("k", by_key))}
    assert error["d"] < 1e-3
    assert error["k"] > 30 * error["d"]
    assert (attend(by_key.double(), query.double(), key.double(), value.double()) - exact).abs().max() < 1e-4
