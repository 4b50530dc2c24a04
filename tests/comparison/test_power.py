"""How many seeds a study takes by its pilot, and when a sequential one stops."""

import math
import statistics

import pytest
from comparison.fake_runs import METRIC, FakeArm, gqa_arms, write_study

from atomiclm.comparison.analysis import compare_folder
from atomiclm.comparison.seeds import next_look, seeds_report
from atomiclm.comparison.statistics import detectable_difference, seeds_needed
from atomiclm.sweep.study import Sequential


@pytest.fixture
def pilot(tmp_path):
    write_study(tmp_path / "gqa", gqa_arms(), (1, 2, 3, 4))
    return compare_folder(tmp_path / "gqa")


def test_seeds_come_from_the_noise_of_the_paired_differences(pilot):
    report = seeds_report(pilot, margin=0.02)
    assert [row.arm for row in report.rows] == ["kv4", "kv2", "kv1"]
    for row in report.rows:
        differences = pilot.arm(row.arm).contrast.differences
        assert row.deviation == statistics.stdev(differences)
        assert row.seeds == seeds_needed(row.deviation, 0.02, 0.05 / 3)
        assert row.detectable == detectable_difference(row.deviation, 4, 0.05 / 3)
        assert row.more_seconds == pytest.approx(50.0 * max(0, row.seeds - 4))
    assert report.seeds == max(row.seeds for row in report.rows)
    assert report.more_seconds == pytest.approx(4 * 50.0 * (report.seeds - 4))
    text = "\n".join(report.lines())
    assert f"{report.seeds} seeds an arm find a difference of 0.02 in 80 % of studies" in text
    assert "known roughly" in text


def test_the_margin_is_the_studys_unless_given(pilot):
    assert seeds_report(pilot).margin == 0.01
    assert seeds_report(pilot).seeds > seeds_report(pilot, margin=0.03).seeds
    assert seeds_report(pilot, power=0.95).seeds > seeds_report(pilot).seeds
    for arguments in ({"margin": -0.1}, {"power": 1.0}, {"power": 0.01}):
        with pytest.raises(ValueError, match=r"not positive|not between"):
            seeds_report(pilot, **arguments)


def test_a_pilot_of_the_baseline_alone_plans_as_if_pairing_bought_nothing(tmp_path):
    write_study(tmp_path / "noise", [FakeArm("base")], (1, 2, 3, 4))
    comparison = compare_folder(tmp_path / "noise")
    (row,) = seeds_report(comparison).rows
    assert row.deviation == math.sqrt(2) * comparison.arms[0].figures[METRIC].deviation
    assert (row.is_measured, row.detectable) == (False, None)
    assert row.seeds == seeds_needed(row.deviation, 0.01)


def test_one_seed_plans_nothing_and_says_so(tmp_path):
    write_study(tmp_path / "one", gqa_arms(), (1,))
    report = seeds_report(compare_folder(tmp_path / "one"))
    assert (report.seeds, report.more_seconds) == (None, None)
    assert all("fewer than 2 finished seeds" in line for line in report.lines())


def look(tmp_path, effects, seeds, *, states=None, max_seeds=9):
    arms = [FakeArm(f"arm{index}", effect, {"optim.lr": index}) for index, effect in enumerate(effects)]
    arms[-1] = FakeArm(arms[-1].name, effects[-1], arms[-1].config, states=states or {})
    study = {"sequential": Sequential(max_seeds, step=2), "seeds": [1, 2, 3]}
    ledger = write_study(tmp_path / "study", arms, range(1, seeds + 1), noise=0.02, study=study)
    return next_look(compare_folder(tmp_path / "study"), ledger.study, seeds)


def test_seeds_are_added_while_an_arm_has_no_verdict(tmp_path):
    found = look(tmp_path, (0.0, 1.0, 0.003), 5)
    assert (found.decision, found.unresolved, found.seeds) == ("add seeds", ["arm2"], 7)
    assert "arm2" in found.reason


def test_a_study_with_all_verdicts_is_resolved(tmp_path):
    found = look(tmp_path, (0.0, 1.0, -1.0), 5)
    assert (found.decision, found.unresolved) == ("resolved", [])


def test_an_arm_that_diverged_waits_for_no_more_seeds(tmp_path):
    assert look(tmp_path, (0.0, 1.0, 0.003), 5, states={2: "diverged"}).decision == "resolved"


def test_the_limit_ends_it_without_a_verdict(tmp_path):
    found = look(tmp_path, (0.0, 1.0, 0.003), 9)
    assert (found.decision, found.unresolved) == ("limit reached", ["arm2"])
    assert "max_seeds=9" in found.reason
