"""The command `compare` on the runs of a sweep over several factors."""

import csv
import io
import itertools
import json
from dataclasses import replace

import pytest
from comparison.fake_runs import METRIC, FakeArm, gqa_arms, write_study
from comparison.page_reading import Page

from atomiclm.compare import main
from atomiclm.comparison.analysis import compare_folder, compare_runs
from atomiclm.comparison.page import page_html
from atomiclm.comparison.runs import read_runs
from atomiclm.comparison.seeds import factor_lines
from atomiclm.sweep.factors import declared_arms
from atomiclm.sweep.ledger import read_ledger, write_ledger
from atomiclm.sweep.study import Study, Tuning

KINDS = ("effects", "heatmap", "interactions", "curves", "cost")


def product(gain=-0.3, together=0.0):
    """Eight arms: heads, theta and the network, whose activation only one option has; `together` of heads and it."""
    networks = [("atomiclm.model.SwiGLU", None), ("atomiclm.model.FeedForward", "gelu")]
    arms = []
    for kv, theta, (network, activation) in itertools.product((1, 4), (1e3, 1e5), networks):
        config = {"model.attention.num_kv_heads": kv, "model.position.theta": theta}
        config["model.feedforward._target_"] = network
        config |= {"model.feedforward.activation": activation} if activation else {}
        effect = (gain + together * (kv == 4)) * (activation is not None)
        costs = {"parameters": 1_000_000 * kv, "cache_bytes_per_token": 512 * kv}
        arms.append(FakeArm(f"kv{kv}-theta{theta:g}-{network[-6:]}", effect, config, costs))
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
    assert any({"1", "1e3", "SwiGLU"} <= set(line.split()) for line in lines), "as one types it"
    verdicts = {line.split()[0]: line.split()[-1] for line in lines if " vs " in line}
    assert verdicts["feedforward"] == "better"
    assert set(verdicts) == {"kv", "theta", "feedforward"}
    arms = [line for line in lines if "±" in line and not line.startswith("factor") and " vs " not in line]
    assert len(arms) == 8
    assert all("FeedForward" in line for line in arms[:4])
    assert main([str(sweep), "--details"]) == 0
    assert "Differences are to" in capsys.readouterr().out


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("kind", KINDS)
def test_each_figure_holds_every_level_and_its_numbers_lie_beside_it(sweep, tmp_path, kind):
    assert main([str(sweep), "--figure", str(tmp_path / "figure.svg"), "--figure-kind", kind]) == 0
    svg = (tmp_path / "figure.svg").read_text()
    assert "SwiGLU" in svg
    assert "FeedForward" in svg
    assert "…" not in svg
    rows = rows_of((tmp_path / "figure.csv").read_text())
    comparison = compare_folder(sweep)
    report = comparison.factors
    if kind == "effects":
        assert [float(row["mean"]) for row in rows] == [effect.mean for effect in report.effects]
        assert {row["factor"] for row in rows} == {"kv", "theta", "feedforward"}
    elif kind == "heatmap":
        assert len(rows) == 8
        found = {(row["kv"], row["theta"], row["feedforward"]): float(row[METRIC]) for row in rows}
        for arm in comparison.arms:
            assert found[tuple(report.levels_of(arm.name)[key] for key in ("kv", "theta", "feedforward"))] == (
                pytest.approx(report.means[arm.name][0], abs=1e-12)
            )
    elif kind == "interactions":
        assert len(rows) == 3 * 4
        assert all(float(row["low"]) < float(row["mean"]) < float(row["high"]) for row in rows)
    elif kind == "curves":
        lasts = {(row["factor"], row["level"]): float(row[METRIC]) for row in rows}
        assert len(lasts) == 6
        assert lasts["feedforward", "FeedForward"] < lasts["feedforward", "SwiGLU"]
        assert lasts["kv", "1"] == pytest.approx(sum(mean for arm, (mean, _) in report.means.items()
                                                     if report.levels_of(arm)["kv"] == "1") / 4)  # fmt: skip
    else:
        assert {row["parameters"] for row in rows} == {"1000000.0", "4000000.0"}
        assert [row["arm"] for row in rows] == [arm.name for arm in comparison.arms]


def test_the_figure_of_arms_has_their_seeds_beside_it(tmp_path):
    write_study(tmp_path / "gqa", gqa_arms(), (1, 2))
    assert main([str(tmp_path / "gqa"), "--figure", str(tmp_path / "arms.pdf")]) == 0
    rows = rows_of((tmp_path / "arms.csv").read_text())
    for row, arm in zip(rows, compare_folder(tmp_path / "gqa").arms, strict=True):
        assert float(row["mean"]) == pytest.approx((float(row["seed 1"]) + float(row["seed 2"])) / 2)
        assert row["arm"] == arm.name


def test_the_page_begins_with_the_factors_then_their_pictures_then_the_arms(tmp_path):
    write_study(tmp_path / "sweep", product(together=0.2), (1, 2, 3), ledger=False)
    comparison = compare_folder(tmp_path / "sweep")
    page = Page(page_html(comparison))
    sections = [section.attributes["id"] for section in page.root.all("section")]
    assert sections[:4] == ["factors", "pictures", "arms", "verdicts"]
    factors = page.root.one("section", id="factors")
    said = factors.text
    assert said.index("kv and feedforward interact") < said.index("4 vs 1")
    simple = page.table("Effects: a level against its factor's first, at each level of another factor")
    assert simple[0] == ["factor", "at", "level", "effect ± 95 %", "p", "verdict"]
    assert [row[1] for row in simple[1:]] == ["SwiGLU", "FeedForward", "kv1", "kv4"]
    headings, *rows = page.table("Effects: a level against its factor's first")
    assert headings == ["factor", "level", "effect ± 95 %", "p", "verdict"]
    assert [row[0] for row in rows] == [effect.factor for effect in comparison.factors.effects]
    assert all(effect.verdict in row[-1] for row, effect in zip(rows, comparison.factors.effects, strict=True))
    drawn = [chart.attributes["id"] for chart in page.root.one("section", id="pictures").all("div", kind="chart")]
    assert {key.split("-")[1] for key in drawn} == set(KINDS)
    assert len([key for key in drawn if "interactions" in key]) == 3
    headings, *rows = page.table("Arms: one row an arm, a column a factor")
    assert headings[:4] == ["kv", "feedforward", "theta", "bits per byte"]
    assert (len(rows), rows[0][-1]) == (8, "best")
    assert len(page.table("Verdicts: one row an arm")) == 9
    assert "…" not in page.root.one("main").text


def test_exports_hold_the_factors(sweep, capsys):
    comparison = compare_folder(sweep)
    effects = comparison.factors.effects
    assert main([str(sweep), "--format", "json"]) == 0
    written = json.loads(capsys.readouterr().out)["factors"]
    assert [one["mean"] for one in written["effects"]] == [effect.mean for effect in effects]
    assert written["factors"][0] == {"name": "kv", "key": "model.attention.num_kv_heads", "levels": ["1", "4"]}
    assert main([str(sweep), "--format", "effects"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [row["kind"] for row in rows] == ["interaction"] * 3 + ["main effect"] * 3
    assert [float(row["p_holm"]) for row in rows[3:]] == [effect.p_holm for effect in effects]
    assert {row["with"] for row in rows[:3]} == {"feedforward", "theta"}
    for form in ("csv", "runs"):
        assert main([str(sweep), "--format", form]) == 0
        row = rows_of(capsys.readouterr().out)[0]
        assert (row["kv"], row["theta"], row["model.attention.num_kv_heads"]) == ("1", "1e3", "1")
    assert main([str(sweep), "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert "no interaction found between 3 pairs of factors (least p" in text
    assert "| feedforward | FeedForward vs SwiGLU |" in text
    assert "| kv | feedforward | theta | bits per byte |" in text


def test_a_study_of_arms_has_no_effects_to_export(tmp_path, capsys):
    write_study(tmp_path / "study", gqa_arms(), (1, 2))
    assert main([str(tmp_path / "study"), "--format", "effects"]) == 2
    assert "takes a sweep over at least two factors" in capsys.readouterr().err


def test_of_two_factors_the_one_pair_is_named_once(tmp_path, capsys):
    write_study(tmp_path / "two", [arm for arm in product() if "theta1000-" in arm.name], (1, 2, 3), ledger=False)
    assert main([str(tmp_path / "two")]) == 0
    out = capsys.readouterr().out
    assert "no interaction found between kv and feedforward (p " in out
    assert "least p" not in out


def test_a_cell_that_leaves_a_factor_at_its_default_has_the_level_of_the_default(tmp_path):
    """Two sweeps in one folder: the first over heads and network, the second over theta too, and not at its default."""
    arms = product()
    write_study(tmp_path / "both", arms, (1, 2))
    ledger = read_ledger(tmp_path / "both")
    typed = {"atomiclm.model.SwiGLU": "swiglu", "atomiclm.model.FeedForward": "gelu"}

    def overrides(cell):
        """As typed: the network as an option; theta only where it is not 1e5, the default."""
        found = [one for one in cell.overrides if "activation" not in one and one != "model.position.theta=100000.0"]
        return [
            f"model/feedforward={typed[one.partition('=')[2]]}" if "_target_" in one else one.replace("=1000.0", "=1e3")
            for one in found
        ]

    cells = [replace(cell, overrides=overrides(cell)) for cell in ledger.cells]
    write_ledger(tmp_path / "both", replace(ledger, study=Study(), cells=cells))
    comparison = compare_folder(tmp_path / "both")
    levels = {factor.name: list(factor.levels) for factor in comparison.factors.factors}
    assert levels == {"kv": ["1", "4"], "theta": ["1e3", "1e5"], "feedforward": ["swiglu", "gelu"]}
    assert {arm.name for arm in comparison.arms} >= {"kv1 theta1e5 swiglu", "kv4 theta1e3 gelu"}
    # Nor is the option that nobody typed unknown where another arm typed it.
    bare = [replace(cell, overrides=[one for one in cell.overrides if "swiglu" not in one]) for cell in cells]
    write_ledger(tmp_path / "both", replace(ledger, study=Study(), cells=bare))
    runs = read_runs([tmp_path / "both"])
    levels = {one.name: list(one.levels) for one in compare_runs(runs, read_ledger(tmp_path / "both")).factors.factors}
    assert levels["feedforward"] == ["SwiGLU", "gelu"]


def test_a_study_of_arms_has_no_effects_to_draw(tmp_path, capsys):
    write_study(tmp_path / "study", gqa_arms(), (1, 2))
    assert main([str(tmp_path / "study"), "--figure", str(tmp_path / "f.svg"), "--figure-kind", "heatmap"]) == 2
    assert "takes a sweep over at least two factors" in capsys.readouterr().err


def test_the_plan_says_what_the_seeds_find(sweep):
    comparison = compare_folder(sweep)
    lines = list(factor_lines(comparison, comparison.factors))
    assert [line.split(":")[0] for line in lines[1:]] == ["kv", "feedforward", "theta", "interactions"]
    assert "2 seeds find an effect of" in lines[1]


def test_a_study_that_declares_factors_is_read_by_them_under_its_own_names(tmp_path):
    """Its arms bear the study's names, and its expectations and baseline stay what they are."""
    factors = {"heads": {"model.attention.num_kv_heads": [1, 4]}, "ffn": {"model/feedforward": ["swiglu", "gelu"]}}
    arms = [FakeArm(arm, -0.3 * arm.endswith("gelu")) for arm in declared_arms(factors)]
    write_study(tmp_path / "mine", arms, (1, 2, 3), study={"arms": {}, "baseline": None, "factors": factors})
    comparison = compare_folder(tmp_path / "mine")
    report = comparison.factors
    assert comparison.baseline == "heads1-swiglu"
    assert [arm.name for arm in comparison.arms] == list(declared_arms(factors))
    assert [(factor.name, list(factor.levels)) for factor in report.factors] == [
        ("heads", ["1", "4"]),
        ("ffn", ["swiglu", "gelu"]),
    ]
    assert {effect.factor: effect.verdict for effect in report.effects} == {"heads": "inconclusive", "ffn": "better"}
    assert report.best in ("heads1-gelu", "heads4-gelu")


def test_what_was_tuned_for_each_arm_is_no_factor(tmp_path):
    """One rate is best for one head and another for four: it goes with the arm, though it has two values as well."""
    arms = product()
    for arm in arms:
        arm.config["optim.lr"] = 0.01 if arm.config["model.position.theta"] == 1e3 else 0.003
    tuning = Tuning("optim.lr", [0.001, 0.003, 0.01])
    ledger = write_study(tmp_path / "sweep", arms, (1, 2))
    write_ledger(tmp_path / "sweep", replace(ledger, study=Study(tuning=tuning)))
    report = compare_folder(tmp_path / "sweep").factors
    assert {factor.name for factor in report.factors} == {"kv", "theta", "feedforward"}


def test_no_number_is_cut_at_80_columns_however_long_the_options_are_called(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    arms = []
    options = [("mha", "local_global"), ("rope", "position_interpolation"), ("swiglu", "swiglu_clamped")]
    for at, names in enumerate(itertools.product(*options)):
        keys = ("model.attention._target_", "model.position._target_", "model.feedforward._target_")
        arms.append(FakeArm(f"arm{at}", 0.01 * at, dict(zip(keys, names, strict=True))))
    write_study(tmp_path / "sweep", arms, (1, 2), ledger=False)
    assert main([str(tmp_path / "sweep")]) == 0
    wide = capsys.readouterr().out
    report = compare_folder(tmp_path / "sweep").factors
    assert all(len(line) <= 80 for line in wide.splitlines())
    assert all(f"{half:.4f}" in wide for _, half in report.means.values())
    assert "seeds" in wide
    assert wide.count("best") >= 1


def test_a_setting_that_no_factor_stands_for_is_still_shown(tmp_path, capsys):
    arms = product()
    for at, arm in enumerate(arms):
        arm.config["optim.lr"] = 0.01 if at % 3 else 0.003
        arm.config["trainer.batch_size"] = 4 + 4 * (at > 3)  # goes with the heads
    write_study(tmp_path / "sweep", arms, (1, 2), ledger=False)
    assert main([str(tmp_path / "sweep"), "--details"]) == 0
    assert "batch_size" in capsys.readouterr().out
    assert "batch_size" in page_html(compare_folder(tmp_path / "sweep"))


def test_a_factor_named_as_a_column_takes_no_figures_place(tmp_path, capsys):
    factors = {"run": {"model.attention.num_kv_heads": [1, 4]}, "state": {"model/feedforward": ["swiglu", "gelu"]}}
    arms = [FakeArm(arm) for arm in declared_arms(factors)]
    write_study(tmp_path / "mine", arms, (1, 2), study={"arms": {}, "baseline": None, "factors": factors})
    assert main([str(tmp_path / "mine"), "--format", "runs"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert {row["state"] for row in rows} == {"done"}
    assert {row["factor state"] for row in rows} == {"swiglu", "gelu"}
