"""What a sweep's factors are, and what its arms are called."""

import itertools

import pytest

from atomiclm.sweep.factors import factors_of, short_names


def test_a_typed_sweep_has_its_axes_as_factors():
    variants = [
        {"model.attention.num_kv_heads": kv, "model.position.theta": theta, "model/feedforward": option}
        for kv, theta, option in itertools.product(["1", "4"], ["1e3", "1e5"], ["swiglu", "gelu"])
    ]
    factors, arms = factors_of(variants)
    assert [factor.name for factor in factors] == ["kv", "theta", "feedforward"]
    assert [factor.levels for factor in factors] == [["1", "4"], ["1e3", "1e5"], ["swiglu", "gelu"]]
    assert arms[3].label == "kv1 theta1e5 gelu"
    assert arms[3].levels == (0, 1, 1)
    assert len({arm.label for arm in arms}) == 8


def test_an_option_is_one_factor_with_the_keys_it_brings():
    """As configurations have it: SwiGLU lacks the activation, and a matched size follows from everything else."""
    variants = [
        {
            "model.attention.num_kv_heads": kv,
            "model.feedforward._target_": option,
            **({"model.feedforward.activation": activation} if activation else {}),
            "model.feedforward.hidden_dim": f"{index}00",
        }
        for index, (kv, (option, activation)) in enumerate(
            itertools.product(["1", "4"], [("SwiGLU", ""), ("FeedForward", "gelu"), ("FeedForward", "relu")])
        )
    ]
    factors, arms = factors_of(variants)
    assert [factor.name for factor in factors] == ["kv", "feedforward"]
    assert [arm.label for arm in arms[:3]] == ["kv1 SwiGLU", "kv1 FeedForward gelu", "kv1 FeedForward relu"]


def test_keys_that_vary_together_are_one_factor():
    factors, arms = factors_of([{"model.dim": "64", "optim.lr": "0.01"}, {"model.dim": "128", "optim.lr": "0.005"}])
    assert [factor.name for factor in factors] == ["dim"]
    assert [arm.label for arm in arms] == ["dim64", "dim128"]


@pytest.mark.parametrize("missing", range(8))
def test_a_sweep_with_a_hole_has_the_same_factors(missing):
    variants = [dict(zip("abc", one, strict=True)) for one in itertools.product("01", repeat=3)]
    del variants[missing]
    factors, arms = factors_of(variants)
    assert [factor.key for factor in factors] == ["a", "b", "c"]
    assert len({arm.label for arm in arms}) == 7


def test_names_are_as_short_as_they_are_distinct():
    names = short_names([
        "model.attention.num_kv_heads", "model.attention.num_heads", "model.attention.dropout",
        "model.feedforward.dropout", "trainer.batch_size", "model/attention/head_norm", "optim.lr",
    ])  # fmt: skip
    assert list(names.values()) == [
        "kv", "heads", "attention.dropout", "feedforward.dropout", "batch", "head_norm", "lr",
    ]  # fmt: skip


def test_labels_say_which_factor_where_a_level_does_not():
    _factors, arms = factors_of([
        {"model/norm": norm, "model/attention/head_norm": head, "model.tied": tied}
        for norm, head, tied in itertools.product(["none", "rms"], ["none", "rms"], ["true", "false"])
    ])  # fmt: skip
    assert arms[0].label == "norm=none head_norm=none tied=true"
    assert arms[6].label == "norm=rms head_norm=rms tied=true"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (["1000.0", "100000.0"], ["1e3", "1e5"]),
        (["0.001", "0.0003"], ["1e-3", "3e-4"]),
        (["0.1", "0.25"], ["0.1", "0.25"]),
        (["1.0", "10.0"], ["1", "10"]),
        (["64", "100000"], ["64", "100000"]),
        (["-0.5", "1.5e-05"], ["-0.5", "1.5e-5"]),
        (["1e0", "123456.0"], ["1", "123456"]),
    ],
)
def test_numbers_take_few_characters_and_are_alike(given, written):
    [factor], _ = factors_of([{"key": value} for value in given])
    assert factor.levels == written
    assert [float(level) for level in factor.levels] == [float(value) for value in given]
