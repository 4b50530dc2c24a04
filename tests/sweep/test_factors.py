"""What a sweep's factors are, and what its arms are called."""

import itertools
from dataclasses import asdict

import pytest

from atomiclm.sweep.factors import declared_arms, factors_of, short_names
from atomiclm.sweep.study import Study


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


# ---------------------------------------------------------------------------------------------------------------------
# Factors that a study declares.

DECLARED = {
    "kv": {"model.attention.num_kv_heads": [1, 4]},
    "theta": {"model.position.theta": [1e3, 1e5]},
    "bias": {"model.attention.bias": [False, True]},
    "norm": {"model/norm": ["rmsnorm", "none"]},
}


def test_the_arms_of_declared_factors_are_all_combinations_of_their_levels():
    arms = declared_arms(DECLARED)
    assert list(arms)[:3] == [
        "kv1-theta1e3-bias-false-rmsnorm",
        "kv1-theta1e3-bias-false-norm-none",
        "kv1-theta1e3-bias-true-rmsnorm",
    ]
    assert len(arms) == 16
    assert arms["kv4-theta1e5-bias-true-norm-none"] == {
        "model.attention.num_kv_heads": "4",
        "model.position.theta": "100000.0",
        "model.attention.bias": "true",
        "model/norm": "none",
    }


@pytest.mark.parametrize(
    "factor",
    [
        {},
        {"a": [1, 2], "b": [1, 2]},
        {"a": [1]},
        {"a": [1, 1]},
        {"a": "12"},
        {"a": [[1], [2]]},
        {"a": 3},
        3,
        None,
        [1, 2],
    ],
)
def test_a_factor_is_one_key_and_its_levels(factor):
    with pytest.raises(ValueError, match=r"^factors\.kv: "):
        declared_arms({"kv": factor})


def test_no_combination_is_lost_to_a_name_or_a_key_that_two_share():
    assert list(declared_arms({"lr": {"optim.lr": [0.1234567, 0.12345674]}})) == ["lr0.1234567", "lr0.12345674"]
    with pytest.raises(ValueError, match="varied by another factor already"):
        declared_arms({"a": {"model.dim": [1, 2]}, "b": {"model.dim": [3, 4]}})
    with pytest.raises(ValueError, match="two combinations are called alike"):
        declared_arms({"x": {"x": ["x-y", "x"]}, "y": {"y": ["z", "y-z"]}})


def test_a_study_with_factors_has_their_arms_and_its_first_one_as_baseline():
    study = Study(factors={"kv": DECLARED["kv"], "norm": DECLARED["norm"]}, seeds=[1, 2])
    assert list(study.arms) == ["kv1-rmsnorm", "kv1-norm-none", "kv4-rmsnorm", "kv4-norm-none"]
    assert study.arms["kv4-norm-none"] == ["model.attention.num_kv_heads=4", "model/norm=none"]
    assert study.baseline == "kv1-rmsnorm"
    assert study.levels["kv4-rmsnorm"] == {"kv": "4", "norm": "rmsnorm"}
    assert Study.from_json(asdict(study)) == study
    assert Study(factors=study.factors, seeds=[1], baseline="kv4-rmsnorm").baseline == "kv4-rmsnorm"
    with pytest.raises(ValueError, match="arms and factors"):
        Study(factors=study.factors, arms={"one": []}, baseline="one", seeds=[1])
