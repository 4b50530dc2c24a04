"""How many seeds a study takes by its pilot, and when a sequential one stops."""

import math
import statistics

import pytest
from comparison.fake_runs import METRIC, FakeArm, gqa_arms, write_study

from atomiclm.comparison.analysis import compare_folder
from atomiclm.comparison.seeds import next_look, seed_lines
from atomiclm.comparison.statistics import detectable_difference, seeds_needed
from atomiclm.sweep.study import Sequential
from atomiclm.tracking.console import duration


@pytest.fixture
def pilot(tmp_path):
    write_study(tmp_path / "gqa", gqa_arms(), (1, 2, 3, 4))
    return compare_folder(tmp_path / "gqa")


def test_seeds_come_from_the_noise_of_the_paired_differences(pilot):
    *rows, whole = seed_lines(pilot)
    wanted = []
    for arm, line in zip(("kv4", "kv2", "kv1"), rows, strict=True):
        deviation = statistics.stdev(pilot.arm(arm).contrast.differences)
        wanted.append(seeds_needed(deviation, 0.01, 0.05 / 3))
        found = detectable_difference(deviation, 4, 0.05 / 3)
        assert line == (
            f"{arm}: sd of differences {deviation:.2g} (4 pairs), 4 seeds find {found:.2g}, {wanted[-1]} seeds needed, "
            f"{duration(50.0 * (wanted[-1] - 4))} more, known roughly"
        )
    more = duration(4 * 50.0 * (max(wanted) - 4))
    assert whole.startswith(f"{max(wanted)} seeds an arm find a difference of 0.01 in 80 % of studies; {more} of")


def test_a_pilot_of_the_baseline_alone_plans_as_if_pairing_bought_nothing(tmp_path):
    write_study(tmp_path / "noise", [FakeArm("base")], (1, 2, 3, 4))
    comparison = compare_folder(tmp_path / "noise")
    deviation = math.sqrt(2) * comparison.arms[0].figures[METRIC].deviation
    line, _ = seed_lines(comparison)
    assert line.startswith(f"base: sd of differences {deviation:.2g} (the baseline's seeds, unpaired), ")
    assert f"{seeds_needed(deviation, 0.01)} seeds needed" in line
    assert "find" not in line


def test_one_seed_plans_nothing_and_says_so(tmp_path):
    write_study(tmp_path / "one", gqa_arms(), (1,))
    lines = list(seed_lines(compare_folder(tmp_path / "one")))
    assert len(lines) == 3
    assert all("fewer than 2 finished seeds" in line for line in lines)


def look(tmp_path, effects, seeds, *, states=None, max_seeds=9):
    arms = [FakeArm(f"arm{index}", effect, {"optim.lr": index}) for index, effect in enumerate(effects)]
    arms[-1] = FakeArm(arms[-1].name, effects[-1], arms[-1].config, states=states or {})
    study = {"sequential": Sequential(max_seeds, step=2), "seeds": [1, 2, 3]}
    ledger = write_study(tmp_path / "study", arms, range(1, seeds + 1), noise=0.02, study=study)
    return next_look(compare_folder(tmp_path / "study"), ledger.study, seeds)


def test_seeds_are_added_while_an_arm_has_no_verdict(tmp_path):
    seeds, reason = look(tmp_path, (0.0, 1.0, 0.003), 5)
    assert (seeds, reason) == (7, "still inconclusive: arm2; they are compared again at 7 seeds")


def test_a_study_with_all_verdicts_is_resolved(tmp_path):
    assert look(tmp_path, (0.0, 1.0, -1.0), 5) == (5, "no arm is inconclusive")


def test_an_arm_that_diverged_waits_for_no_more_seeds(tmp_path):
    assert look(tmp_path, (0.0, 1.0, 0.003), 5, states={2: "diverged"})[0] == 5


def test_the_limit_ends_it_without_a_verdict(tmp_path):
    seeds, reason = look(tmp_path, (0.0, 1.0, 0.003), 9)
    assert seeds == 9
    assert "max_seeds=9" in reason
    assert reason.endswith("still inconclusive: arm2")
