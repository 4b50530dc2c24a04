"""`match` is solved at composition, written into the configuration, and refused when it cannot be met."""

import pytest
import torch

from atomiclm.config.build import build
from atomiclm.config.compose import compose, resolved, root_keys
from atomiclm.config.errors import ConfigError
from atomiclm.config.match import apply_match, cost_of
from atomiclm.config.run import digest
from atomiclm.config.validate import validate

SIZE = "model=small"
BASELINE = "match.baseline=['model.attention.num_kv_heads=8']"


def matched(*overrides):
    overrides = (SIZE, *overrides)
    config = compose(overrides)
    found = apply_match(config, overrides)
    return found, validate(resolved(config), root_keys())


@pytest.mark.parametrize("heads", [4, 2, 1])
def test_parameters_equal_the_baselines_and_are_really_there(heads):
    found, values = matched("match=parameters", BASELINE, f"model.attention.num_kv_heads={heads}")
    baseline = cost_of(resolved(compose([SIZE, "model.attention.num_kv_heads=8"])))
    with torch.device("meta"):
        model = build(values["model"])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(baseline.parameters, rel=0.005)
    assert values["model"]["feedforward"]["hidden_dim"] == found.value == model.blocks[0].feedforward.hidden_dim
    assert found.residuals["parameters"] == pytest.approx(count / baseline.parameters - 1)
    assert found.residuals["cache_bytes"] == pytest.approx(heads / 8 - 1)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("quantity", ["parameters", "non_embedding_parameters", "flops"])
@pytest.mark.parametrize("arm", ["model/feedforward=gelu", "model/position=learned", "model.num_layers=3"])
def test_every_quantity_of_every_arm_comes_within_the_tolerance(quantity, arm):
    baseline = "match.baseline=['model/feedforward=swiglu','model/position=rope','model.num_layers=4']"
    found, values = matched(f"match={quantity}", baseline, arm)
    target = cost_of(resolved(compose([SIZE]))).quantity(quantity)
    assert cost_of(values).quantity(quantity) == pytest.approx(target, rel=0.005)
    assert found is None or abs(found.residuals[quantity]) < 0.005


def test_cache_bytes_are_met_by_the_width_of_heads():
    found, _ = matched(
        "match=cache_bytes", BASELINE, "model.attention.num_kv_heads=4", "match.free=model.attention.head_dim",
        "match.multiple_of=2",
    )  # fmt: skip
    assert found.value == 48
    assert found.residuals["cache_bytes"] == 0


def test_training_flops_are_met_by_the_budget():
    found, values = matched(
        "match=flops", "match.baseline=['model.num_layers=4']", "model.num_layers=2", "match.free=trainer.max_tokens"
    )
    assert values["trainer"]["max_tokens"] == found.value > 1_000_000
    assert abs(found.residuals["flops"]) < 0.002


def test_the_baseline_matched_to_itself_is_the_run_it_was():
    found, values = matched("match=parameters", BASELINE, "model.attention.num_kv_heads=8")
    assert found is None
    plain = validate(resolved(compose([SIZE, "model.attention.num_kv_heads=8"])), root_keys())
    assert digest(values) == digest(plain)


def test_what_was_solved_is_part_of_the_identity_and_the_match_is_not():
    _, values = matched("match=parameters", BASELINE, "model.attention.num_kv_heads=2")
    given = resolved(compose([SIZE, "model.attention.num_kv_heads=2", "model.feedforward.hidden_dim=608"]))
    assert digest(values) == digest(validate(given, root_keys()))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["match.multiple_of=500"], ["misses", "multiple_of"]),
        (["match.free=model.norm.eps"], ["match.free", "no whole number"]),
        (["match.free=model.feedforward.hiden_dim"], ["match.free", "hiden_dim"]),
        (["match.free=model.context_length"], ["match", "does not depend"]),
        (["match.baseline=['model.dim=nine']"], ["match.baseline"]),
        (["match.baseline=['modle.dim=9']"], ["match.baseline"]),
        (["match.baseline=[]"], ["match", "baseline is empty"]),
        (["match.tolerence=0.1"], ["tolerence"]),
        (["match.baseline=['model.dim=16','model.attention.head_dim=2']"], ["match", "more than the baseline"]),
    ],
)
def test_what_cannot_be_matched_is_refused_with_the_reason(overrides, words):
    with pytest.raises(Exception) as refused:  # noqa: PT011
        matched("match=parameters", BASELINE, "model.attention.num_kv_heads=2", *overrides)
    assert isinstance(refused.value, ConfigError) or "tolerence" in str(refused.value)
    for word in words:
        assert word in str(refused.value)
