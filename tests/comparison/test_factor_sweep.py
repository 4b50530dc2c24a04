"""The command `compare` on the runs of a sweep over several factors."""

import itertools

import pytest
from comparison.fake_runs import FakeArm, gqa_arms, write_study

from atomiclm.compare import main
from atomiclm.comparison.analysis import compare_folder
from atomiclm.comparison.seeds import factor_lines

KINDS = ("effects", "heatmap", "interactions", "curves")


def product(gain=-0.3):
    """Eight arms: heads, theta and the network, whose activation only one option has."""
    networks = [("atomiclm.model.SwiGLU", None), ("atomiclm.model.FeedForward", "gelu")]
    arms = []
    for kv, theta, (network, activation) in itertools.product((1, 4), (1e3, 1e5), networks):
        config = {"model.attention.num_kv_heads": kv, "model.position.theta": theta}
        config["model.feedforward._target_"] = network
        config |= {"model.feedforward.activation": activation} if activation else {}
        arms.append(FakeArm(f"kv{kv}-theta{theta:g}-{network[-6:]}", gain * (activation is not None), config))
    return arms


@pytest.fixture
def sweep(tmp_path):
    write_study(tmp_path / "sweep", product(), (1, 2), ledger=False)
    return tmp_path / "sweep"


def test_one_screen_says_which_factor_mattered(sweep, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([str(sweep)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert all(len(line) <= 80 and "…" not in line for line in lines)
    verdicts = {line.split()[0]: line.split()[-1] for line in lines if " vs " in line}
    assert verdicts["feedforward"] == "better"
    assert set(verdicts) == {"kv", "theta", "feedforward"}
    arms = [line for line in lines if line.split()[-1:] == ["best"] or "±" in line]
    assert len(arms) == 8
    assert all("FeedForward" in line for line in arms[:4])
    assert main([str(sweep), "--details"]) == 0
    assert "Differences are to" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_each_figure_holds_every_level(sweep, tmp_path, kind):
    assert main([str(sweep), "--figure", str(tmp_path / "figure.svg"), "--figure-kind", kind]) == 0
    svg = (tmp_path / "figure.svg").read_text()
    assert "SwiGLU" in svg
    assert "FeedForward" in svg


def test_a_study_of_arms_has_no_effects_to_draw(tmp_path, capsys):
    write_study(tmp_path / "study", gqa_arms(), (1, 2))
    assert main([str(tmp_path / "study"), "--figure", str(tmp_path / "f.svg"), "--figure-kind", "heatmap"]) == 2
    assert "takes a sweep over at least two factors" in capsys.readouterr().err


def test_the_plan_says_what_the_seeds_find(sweep):
    comparison = compare_folder(sweep)
    lines = list(factor_lines(comparison, comparison.factors))
    assert [line.split(":")[0] for line in lines[1:]] == ["kv", "feedforward", "theta", "interactions"]
    assert "2 seeds find an effect of" in lines[1]
