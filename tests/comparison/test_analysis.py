"""From run folders to a Comparison: arms, pairs, costs, predictions, what is missing and what is refused."""

import json
import math
import re
import shutil
import statistics

import pytest
from comparison.fake_runs import METRIC, PROTOCOL, FakeArm, gqa_arms, write_run, write_study

from atomiclm.comparison.analysis import compare_folder, compare_runs
from atomiclm.comparison.runs import read_plan, read_runs
from atomiclm.comparison.statistics import one_sample, seeds_needed
from atomiclm.sweep.ledger import Cell, TunedValue, read_ledger, write_ledger

SEEDS = (1, 2, 3, 4, 5)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "outputs" / "gqa"
    write_study(path, gqa_arms(), SEEDS)
    return path


def edit(path, name="summary.json", **values):
    """Change entries of a JSON file of a run; None takes one away."""
    content = json.loads((path / name).read_text())
    content = {key: value for key, value in {**content, **values}.items() if value is not None}
    (path / name).write_text(json.dumps(content))


def unlike(**compared):
    return {**PROTOCOL, "compared": {**PROTOCOL["compared"], **compared}}


def run_of(folder, arm, seed):
    return next(folder.glob(f"{arm}-seed={seed}-*"))


def bits(folder, arm):
    return [json.loads((run_of(folder, arm, seed) / "summary.json").read_text())[METRIC] for seed in SEEDS]


def test_arms_stand_in_the_studys_order_with_means_intervals_and_paired_differences(folder):
    comparison = compare_folder(folder)
    assert [arm.name for arm in comparison.arms] == ["kv8", "kv4", "kv2", "kv1"]
    assert (comparison.baseline, comparison.margin, comparison.direction) == ("kv8", 0.01, "lower")
    assert [column.key for column in comparison.columns] == ["model.attention.num_kv_heads"]
    assert comparison.arms[0].contrast is None
    for arm in comparison.arms:
        spread, values = arm.figures[METRIC], bits(folder, arm.name)
        assert (spread.mean, spread.deviation) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
        assert spread.half_width == pytest.approx(one_sample(values).half_width(0.05))
        assert arm.seeds == list(SEEDS)
        assert arm.figures["parameters"].mean == arm.runs[0].summary["parameters"]
    contrast = comparison.arm("kv1").contrast
    wanted = [ours - theirs for ours, theirs in zip(bits(folder, "kv1"), bits(folder, "kv8"), strict=True)]
    assert contrast.differences == pytest.approx(wanted)
    assert (contrast.low, contrast.high) == pytest.approx(one_sample(wanted).interval(0.05))
    assert contrast.seeds_needed == seeds_needed(statistics.stdev(wanted), 0.01, 0.05 / 3)


def test_the_baseline_comes_first_wherever_the_study_lists_it(tmp_path):
    write_study(tmp_path / "gqa", gqa_arms(), study={"baseline": "kv2"})
    comparison = compare_folder(tmp_path / "gqa")
    assert [arm.name for arm in comparison.arms] == ["kv2", "kv8", "kv4", "kv1"]


def test_what_is_missing_or_failed_has_the_command_that_finishes_it(tmp_path):
    arms = gqa_arms()
    states = {1: "missing", 2: "failed", 3: "interrupted", 4: "torn", 5: "running"}
    arms[3] = FakeArm("kv1", 0.03, arms[3].config, arms[3].summary, states)
    ledger = write_study(tmp_path / "gqa", arms, SEEDS)
    comparison = compare_folder(tmp_path / "gqa")
    found = {(one.seed, one.state) for one in comparison.unfinished}
    assert found == {(seed, state) for seed, state in states.items()}
    assert [one.state for one in comparison.unfinished] == ["failed", "torn", "interrupted", "missing", "running"]
    commands = {cell.seed: cell.command for cell in ledger.cells if cell.arm == "kv1"}
    assert {one.seed: one.command for one in comparison.unfinished} == commands
    assert comparison.command == ledger.command
    assert comparison.unfinished[0].error == "OutOfMemoryError: out of memory in layer 3"
    empty = comparison.arm("kv1")
    assert (empty.planned, empty.seeds, empty.verdict) == (5, [], "inconclusive")
    assert math.isnan(empty.figures[METRIC].mean)


def test_a_study_of_which_nothing_has_begun_is_all_missing(tmp_path):
    arms = [FakeArm(arm.name, states=dict.fromkeys(SEEDS, "missing")) for arm in gqa_arms()]
    write_study(tmp_path / "gqa", arms, SEEDS)
    comparison = compare_folder(tmp_path / "gqa")
    assert {one.state for one in comparison.unfinished} == {"missing"}
    assert len(comparison.unfinished) == 20
    assert (comparison.noise, comparison.baseline) == (None, "kv8")


def test_diverged_seeds_are_counted_and_never_dropped(tmp_path):
    arms = gqa_arms()
    arms[1] = FakeArm("kv4", -0.1, arms[1].config, arms[1].summary, {2: "diverged"})
    write_study(tmp_path / "gqa", arms, SEEDS)
    arm = compare_folder(tmp_path / "gqa").arm("kv4")
    assert (arm.verdict, arm.contrast.verdict, arm.seeds) == ("diverged 1 of 5", "diverged", [1, 3, 4, 5])
    assert "of the seeds that ended" in arm.contrast.note


def test_a_finished_run_without_a_number_has_diverged(folder):
    edit(run_of(folder, "kv2", 3), **{METRIC: {"non_finite": "nan"}})
    comparison = compare_folder(folder)
    assert comparison.arm("kv2").verdict == "diverged 1 of 5"
    assert [(one.state, one.error) for one in comparison.unfinished] == [("diverged", f"{METRIC} is nan")]


def test_a_baseline_that_diverged_is_said_to_be_flattered(tmp_path):
    arms = gqa_arms()
    arms[0] = FakeArm("kv8", 0.0, arms[0].config, arms[0].summary, {2: "diverged"})
    write_study(tmp_path / "gqa", arms, SEEDS)
    comparison = compare_folder(tmp_path / "gqa")
    assert comparison.arms[0].verdict == "diverged 1 of 5"
    assert comparison.arm("kv1").contrast.seeds == [1, 3, 4, 5]
    assert any("kv8 diverged 1 of 5" in note and "flatters" in note for note in comparison.notes)


def test_runs_that_are_not_in_the_plan_are_left_out_and_named(folder):
    write_run(folder / "extra-seed=1-0badc0de", FakeArm("extra"), 1, 0.5)
    edit(folder / "extra-seed=1-0badc0de", protocol={**PROTOCOL, "protocol": "another"})
    comparison = compare_folder(folder)
    assert comparison.unplanned == ["extra-seed=1-0badc0de"]
    assert [arm.name for arm in comparison.arms] == ["kv8", "kv4", "kv2", "kv1"]
    assert any("extra-seed=1-0badc0de" in note for note in comparison.notes)
    assert comparison.total.runs == 20


def test_a_run_is_found_by_its_digest_whatever_its_folder_is_called(folder):
    path = run_of(folder, "kv4", 2)
    path.rename(folder / f"older_name-{path.name.rpartition('-')[2]}")
    assert compare_folder(folder).arm("kv4").seeds == list(SEEDS)


def _forget_the_study(folder):
    """Make of the ledger that of a sweep from the command line."""
    content = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**content, "study": {}}))


@pytest.mark.parametrize("is_study", [True, False])
@pytest.mark.parametrize("name", ["a_backup-", "zz_backup-"])
def test_a_copy_beside_its_run_is_refused_naming_both(folder, is_study, name):
    if not is_study:
        _forget_the_study(folder)
    path = run_of(folder, "kv4", 2)
    copy = shutil.copytree(path, folder / f"{name}{path.name}")
    edit(copy, **{METRIC: 9.0})
    for wanted in (re.escape(str(path)), re.escape(str(copy))):
        with pytest.raises(ValueError, match=rf"{wanted}.* are copies of one run.* move one of them"):
            compare_folder(folder)


def test_single_runs_and_earlier_sweeps_are_arms_beside_those_of_a_sweep(folder):
    _forget_the_study(folder)
    shutil.rmtree(run_of(folder, "kv2", 3))
    write_run(folder / "seed=1-0badc0de", FakeArm("single", config={"optim.lr": 0.5}), 1, 1.5)
    write_run(folder / "seed=6-0badc0df", FakeArm("kv2", config={"model.attention.num_kv_heads": 2}), 6, 1.9)
    write_run(folder / "seed=7-0badc0d0", FakeArm("broken", config={"optim.lr": 9}), 7, 1.9, state="failed")
    comparison = compare_folder(folder)
    assert [arm.name for arm in comparison.arms][:4] == ["kv8", "kv4", "kv2", "kv1"], "the sweep's, as it names them"
    (single,) = comparison.arms[4:]
    assert (single.name, single.figures[METRIC].mean) == ("num_kv_heads=8 lr=0.5", 1.5)
    assert (comparison.arm("kv2").seeds, comparison.arm("kv2").planned) == ([1, 2, 4, 5, 6], 6)
    assert [(one.arm, one.state) for one in comparison.unfinished] == [("", "failed"), ("kv2", "missing")]
    assert (comparison.unplanned, comparison.baseline) == ([], "kv8")
    assert comparison.total.runs == 21


def test_a_name_that_a_sweep_has_given_is_no_other_arms(folder):
    _forget_the_study(folder)
    content = json.loads((folder / "study.json").read_text())
    for cell in content["cells"]:
        cell["arm"] = cell["arm"].replace("kv4", "num_kv_heads=3")
    (folder / "study.json").write_text(json.dumps(content))
    write_run(folder / "seed=1-0badc0de", FakeArm("single", config={"model.attention.num_kv_heads": 3}), 1, 1.5)
    names = [arm.name for arm in compare_folder(folder).arms]
    assert len(set(names)) == len(names) == 5
    assert names[1] == "num_kv_heads=3"


def test_two_arms_may_share_their_runs(folder):
    ledger = read_ledger(folder)
    twins = [Cell("twin", cell.seed, cell.run_id, cell.overrides) for cell in ledger.cells if cell.arm == "kv8"]
    content = json.loads((folder / "study.json").read_text())
    content["cells"] += [vars(twin) for twin in twins]
    (folder / "study.json").write_text(json.dumps(content))
    arm = compare_folder(folder).arm("twin")
    assert (arm.contrast.verdict, set(arm.contrast.differences)) == ("equivalent", {0.0})


def test_predictions_stand_beside_what_was_seen(tmp_path):
    study = {"expect": {"kv1": "worse", "kv4": "better"}, "margin": 0.02}
    write_study(tmp_path / "gqa", gqa_arms((0.0, 0.001, 0.012, 0.2)), SEEDS, study=study)
    comparison = compare_folder(tmp_path / "gqa")
    assert [(arm.expected, arm.outcome) for arm in comparison.arms] == [
        (None, None),
        ("better", "contradicted"),
        (None, None),
        ("worse", "reproduced"),
    ]
    assert comparison.prediction.is_before_the_results
    assert comparison.prediction.sha256 == comparison.study.prediction_sha256()
    elsewhere = compare_runs(read_runs([tmp_path / "gqa"]), read_plan([tmp_path / "gqa"]), baseline="kv4")
    assert {arm.outcome for arm in elsewhere.arms} == {None}, "the predictions are about the declared baseline"


@pytest.mark.parametrize(("finished", "earlier"), [(0, 0), (7, 0), (7, 1), (0, 1)])
def test_a_prediction_says_how_beforehand_it_was_made(tmp_path, finished, earlier):
    ledger = write_study(tmp_path / "gqa", gqa_arms(), finished_cells=finished)
    if earlier:
        old = write_study(tmp_path / "old", gqa_arms(), study={"prediction": "Nothing at all."})
        content = json.loads((tmp_path / "gqa" / "study.json").read_text())
        content["declared"] = [vars(old.declared[0]), *content["declared"]]
        (tmp_path / "gqa" / "study.json").write_text(json.dumps(content))
    predicted = compare_folder(tmp_path / "gqa").prediction
    assert (predicted.finished_cells, predicted.earlier_versions) == (finished, earlier)
    assert predicted.is_before_the_results == (finished == 0)
    assert predicted.sha256 == ledger.declared[0].sha256


def test_a_prediction_taken_back_and_put_up_again_counts_from_the_later_time(tmp_path):
    write_study(tmp_path / "gqa", gqa_arms())
    content = json.loads((tmp_path / "gqa" / "study.json").read_text())
    first = content["declared"][0]
    content["declared"] += [{**first, "sha256": "other", "finished_cells": 3}, {**first, "finished_cells": 5}]
    (tmp_path / "gqa" / "study.json").write_text(json.dumps(content))
    predicted = compare_folder(tmp_path / "gqa").prediction
    assert (predicted.finished_cells, predicted.earlier_versions) == (5, 1)


def test_costs_that_differ_and_were_not_matched_are_listed(tmp_path):
    matched = {"parameters": 2_560_000, "cache_bytes_per_token": 1536, "match": {"quantity": "parameters"}}
    write_study(tmp_path / "gqa", [FakeArm("kv8"), FakeArm("kv4", config={"x.y": 1}, summary=matched)])
    costs = {cost.quantity: cost for cost in compare_folder(tmp_path / "gqa").arm("kv4").costs}
    assert set(costs) == {"parameters", "cache_bytes_per_token"}
    assert costs["cache_bytes_per_token"].relative == -0.5
    assert not costs["cache_bytes_per_token"].is_matched
    assert costs["parameters"].is_matched, "what is left of a match is told, however small"
    assert costs["parameters"].relative == pytest.approx(2_560_000 / 2_557_632 - 1)


def test_facts_of_the_environment_that_differ_are_counted(folder):
    path = run_of(folder, "kv4", 1)
    content = json.loads((path / "environment.json").read_text())
    content["processes"][-1] |= {"torch_threads": 2, "versions": {"torch": "2.16.0", "atomiclm": "0.1.0"}}
    content["processes"][-1]["source"] = {"commit": "f" * 40, "dirty": True, "diff_sha256": "e" * 64}
    content["processes"].insert(0, {"torch_threads": 64})  # the last process to go on with a run is the one that counts
    (path / "environment.json").write_text(json.dumps(content))
    differences = {one.fact: one.runs for one in compare_folder(folder).environment}
    assert differences == {
        "commit": {"a28da00365b6": 19, "ffffffffffff with changes eeeeeeee": 1},
        "torch": {"2.15.0": 19, "2.16.0": 1},
        "threads": {"1": 19, "2": 1},
    }
    (path / "environment.json").unlink()
    assert compare_folder(folder).environment == []


def test_the_commit_does_not_matter_where_the_code_itself_is_known(folder):
    for index, path in enumerate(sorted(folder.glob("*-seed=*"))):
        content = json.loads((path / "environment.json").read_text())
        content["processes"][-1] |= {"code_sha256": "c0de" * 16, "source": {"commit": str(index) * 40}}
        (path / "environment.json").write_text(json.dumps(content))
    assert compare_folder(folder).environment == []


def test_totals_anchors_and_the_noise_floor(folder):
    comparison = compare_folder(folder)
    assert comparison.total.runs == 20
    assert comparison.total.seconds == pytest.approx(20 * 50.0)
    assert comparison.total.core_seconds == pytest.approx(20 * 50.0)
    assert comparison.total.flops == pytest.approx(20 * 1e6 * 17_694_720)
    assert comparison.anchors == {"5-gram": 2.408, "xz": 2.518}
    floor = comparison.noise
    assert (floor.deviation, floor.count, floor.pairs) == (pytest.approx(statistics.stdev(bits(folder, "kv8"))), 5, 5)
    deviations = [arm.contrast.deviation for arm in comparison.arms if arm.contrast]
    assert floor.difference_deviation == pytest.approx(math.sqrt(statistics.mean(one**2 for one in deviations)))


def test_a_study_of_noise_alone_has_one_arm_and_no_verdict(tmp_path):
    write_study(tmp_path / "noise", [FakeArm("base")], range(1, 11))
    comparison = compare_folder(tmp_path / "noise")
    assert (len(comparison.arms), comparison.arms[0].contrast, comparison.noise.count) == (1, None, 10)
    assert comparison.noise.difference_deviation is None


def test_a_setting_tuned_to_the_end_of_its_grid_is_noted(tmp_path):
    tuned = {"kv8": TunedValue(0.003, {"0.003": 1.9}, True), "kv4": TunedValue(0.012, {"0.012": 1.9}, False)}
    study = {"tuning": {"key": "optim.lr", "values": [0.003, 0.006, 0.012]}}
    write_study(tmp_path / "gqa", gqa_arms())
    content = json.loads((tmp_path / "gqa" / "study.json").read_text())
    content["study"] |= study
    content["tuned"] = {arm: vars(value) for arm, value in tuned.items()}
    (tmp_path / "gqa" / "study.json").write_text(json.dumps(content))
    comparison = compare_folder(tmp_path / "gqa")
    assert [note for note in comparison.notes if "at the end" in note] == [
        "kv4: optim.lr=0.012 is at the end of what was tried, so its optimum may lie beyond."
    ]
    assert set(comparison.tuned) == {"kv8", "kv4"}


def test_sequential_studies_are_judged_by_their_looks(tmp_path):
    study = {"seeds": [11, 12, 13], "sequential": {"max_seeds": 7, "step": 2}}
    ledger = write_study(tmp_path / "gqa", gqa_arms(), (11, 12, 13, 1, 2, 3))
    content = json.loads((tmp_path / "gqa" / "study.json").read_text())
    content["study"] |= study
    content["looks"] = [3]
    (tmp_path / "gqa" / "study.json").write_text(json.dumps(content))
    contrast = compare_folder(tmp_path / "gqa").arm("kv1").contrast
    assert contrast.seeds == [11, 12, 13, 1, 2], "as planned, not sorted"
    assert contrast.alpha < 0.05
    content["looks"] = [3, 4]
    (tmp_path / "gqa" / "study.json").write_text(json.dumps(content))
    comparison = compare_folder(tmp_path / "gqa")
    assert any("other numbers of seeds than planned" in note for note in comparison.notes)
    assert comparison.arm("kv1").contrast.seeds == [11, 12, 13, 1, 2]
    assert len(ledger.cells) == 24


def test_without_a_plan_runs_are_arms_by_variant_and_the_baseline_is_not_chosen_by_its_result(tmp_path):
    arms = [
        FakeArm("c", 0.0, {"optim.lr": 0.003, "model.dim": 128}),
        FakeArm("a", -0.05, {"optim.lr": 0.001, "model.dim": 128}),
        FakeArm("b", 0.05, {"optim.lr": 0.003, "model.dim": 64}),
    ]
    write_study(tmp_path / "lr", arms, ledger=False)
    comparison = compare_folder(tmp_path / "lr")
    assert comparison.baseline == "dim128 lr0.003", "the one that shares most of its settings"
    names = [arm.name for arm in comparison.arms]
    assert names == ["dim128 lr0.003", "dim128 lr0.001", "dim64 lr0.003"], "then the best first"
    assert any("No baseline was declared" in note for note in comparison.notes)
    assert comparison.margin is None
    assert {arm.verdict for arm in comparison.arms} <= {"", "better", "worse", "inconclusive"}


@pytest.mark.parametrize("wanted", ["dim64 lr0.003", "dim=64", "model.dim=64"])
def test_the_baseline_is_chosen_by_name_or_by_value(tmp_path, wanted):
    arms = [FakeArm("a", 0.0, {"model.dim": 128}), FakeArm("c", 0.05, {"model.dim": 64, "optim.lr": 0.003})]
    arms.append(FakeArm("d", 0.05, {"model.dim": 128, "optim.lr": 0.001}))
    write_study(tmp_path / "lr", arms, ledger=False)
    comparison = compare_runs(read_runs([tmp_path / "lr"]), baseline=wanted)
    assert comparison.arms[0].values["model.dim"] == 64
    for wrong, message in (("dim=128", "is 2 of the arms"), ("dim=3", "none of the arms"), ("kv", "'dim64 lr0.003'")):
        with pytest.raises(ValueError, match=message):
            compare_runs(read_runs([tmp_path / "lr"]), baseline=wrong)


def test_a_plan_from_the_command_line_has_its_first_arm_as_baseline(folder):
    _forget_the_study(folder)
    comparison = compare_folder(folder)
    assert comparison.baseline == "kv8"
    assert any("the first of the sweep" in note for note in comparison.notes)


def test_another_metric_decides_by_its_own_direction_and_without_the_studys_margin(folder):
    runs, plan = read_runs([folder]), read_plan([folder])
    comparison = compare_runs(runs, plan, metric="tokens_per_second")
    assert (comparison.direction, comparison.margin) == ("higher", None)
    assert comparison.arm("kv4").contrast.differences == [0.0] * 5
    assert compare_runs(runs, plan, metric="cache_bytes_per_token", margin=1.0).arm("kv1").verdict == "better"
    assert compare_runs(runs, plan, alpha=0.2).arm("kv1").contrast.alpha == 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, "--alpha"),
        ({"margin": 0.0}, "--margin"),
        ({"margin": float("nan")}, "--margin"),
        ({"metric": "validation/los"}, "validation/loss"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        compare_runs(read_runs([folder]), read_plan([folder]), **settings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"protocol": unlike(validation_sha256="bb")}, r"validation bytes: 1a76159a29c5 against bb"),
        ({"protocol": unlike(separate_documents=True)}, r"documents apart: False against True"),
        ({"validation/accuracy": 0.5}, r"validation figures differ.*kv4-seed=3.* reports validation/accuracy"),
        ({"protocol": {**PROTOCOL, "protocol": "sliding"}}, r"protocol: bits_per_byte against sliding"),
        (
            {"protocol": {"protocol": "sliding", "recorded": {}}},
            r"kv4-seed=3.*: summary.json does not say how",
        ),
    ],
)
def test_runs_measured_in_unlike_ways_are_refused_naming_the_difference(folder, changed, message):
    edit(run_of(folder, "kv4", 3), **changed)
    with pytest.raises(ValueError, match=message):
        compare_folder(folder)


def test_a_copy_of_a_run_is_not_a_second_measurement(folder, tmp_path):
    write_study(tmp_path / "copy", gqa_arms()[:1], (1,), ledger=False)
    with pytest.raises(ValueError, match=r"seed 1 of variant .* is there twice"):
        compare_runs(read_runs([folder, tmp_path / "copy"]))


def test_the_ledger_is_read_of_one_study_folder_only(folder, tmp_path):
    assert read_plan([folder]).name == "gqa"
    assert read_plan([folder, folder]) is None
    assert read_plan([run_of(folder, "kv8", 1)]) is None
    (folder / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study\.json cannot be read"):
        compare_folder(folder)
    write_ledger(folder, write_study(tmp_path / "again", gqa_arms(), SEEDS))
    assert len(compare_folder(folder).arms) == 4
