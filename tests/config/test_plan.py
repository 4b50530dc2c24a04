"""`plan` answers with what was counted, for one configuration, a study or a sweep."""

import re

import pytest
from cli import run

from atomiclm.config.compose import compose, resolved
from atomiclm.config.match import cost_of
from atomiclm.machine import processor_name
from atomiclm.training.runtime import MatmulRate, Reached, save_seen


def test_one_configuration_in_full(tmp_path):
    done = run(tmp_path, "plan", "model.attention.num_kv_heads=4")
    assert done.returncode == 0, done.stderr
    cost = cost_of(resolved(compose(["model.attention.num_kv_heads=4"])))
    for figure in (cost.parameters, cost.training_flops_per_token, cost.tokens, cost.steps):
        assert f"{figure:,}" in done.stdout
    for word in ("embedding", "cache bytes/token", "memory", "activations", "optimizer", "at least", "FLOP/s"):
        assert word in done.stdout


@pytest.mark.slow
def test_the_time_is_a_range_from_the_best_rate_to_what_like_runs_reached(tmp_path):
    """It said "at least 8 min" of what took 4:28, at a rate that was measured while others had the cores."""
    cost = cost_of(resolved(compose([])))
    here = "cpu", processor_name(), "float32", 2
    save_seen(tmp_path / "cache", MatmulRate(*here, cost.flops / 150))
    assert "over 2 min of steps" in run(tmp_path, "plan").stdout
    save_seen(tmp_path / "cache", Reached(*here, cost.flops / 300, cost.training_flops_per_token))
    done = run(tmp_path, "plan")
    assert "2 to 5 min of steps" in done.stdout, done.stderr
    assert "2 to 5 min" in run(tmp_path, "plan", "-m", "seed=1,2", "optim.lr=1e-3,2e-3").stdout
    save_seen(tmp_path / "cache", Reached(*here, cost.flops / 7300, cost.training_flops_per_token))
    assert "2 min to 2.0 h of steps" in run(tmp_path, "plan").stdout


@pytest.mark.slow
def test_the_arms_of_a_study_with_their_matches(tmp_path):
    """Seeds are not arms; matched arms have the baseline's parameters."""
    done = run(tmp_path, "plan", "experiments=gqa_ratio")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "7 arms" in lines[0]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[2:9]]
    assert [row[0] for row in rows] == ["kv8", "kv4", "kv2", "kv1", "kv4_matched", "kv2_matched", "kv1_matched"]
    baseline = int(rows[0][1].replace(",", ""))
    for row in rows[4:]:
        assert row[1].startswith("hidden_dim=")
        assert int(row[2].replace(",", "")) == pytest.approx(baseline, rel=0.005)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_sweep_from_the_command_line_is_a_table(tmp_path):
    done = run(tmp_path, "plan", "-m", "model=tiny", "model/feedforward=swiglu,gelu", "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert "2 arms" in done.stdout
    assert re.search(r"^\s+swiglu\s", done.stdout, re.MULTILINE)
    assert re.search(r"^\s+gelu\s", done.stdout, re.MULTILINE)
    assert "done" not in done.stderr, "no board, and no cells that are done"


@pytest.mark.slow
def test_a_mistake_is_told_as_in_train(tmp_path):
    done = run(tmp_path, "plan", "experiments=gqa_ratio", "model.attention.num_heads=7")
    assert done.returncode == 2
    assert "num_heads=7" in done.stderr
    assert "Traceback" not in done.stderr
