"""A sweep is validated whole before anything trains: what is sound is planned, what is not is told by path and rule."""

import csv
import re

import pytest
from cli import TINY, corpus, run
from config.sketched import GROWING, MINE, SMALL, TUNED, plan, read_study, write_experiment

from atomiclm.cli import UserError
from atomiclm.config.compose import initialized
from atomiclm.config.errors import ConfigError
from atomiclm.config.expand_overrides import expand_overrides
from atomiclm.config.match import cost_of
from atomiclm.config.plugins import EXPERIMENTS
from atomiclm.config.run import digest, read_cell
from atomiclm.sweep import read_ledger
from atomiclm.sweep.plan import plan_sweep, validate_cells
from atomiclm.sweep.runner import CellLauncher, Sweep
from atomiclm.tracking import write_summary

DECLARED = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml") if "\nstudy:" in path.read_text(encoding="utf-8"))
HEADER = "# @package _global_\n"
TWO = {"narrow": ["model.dim=16"]}


def _arm(*overrides, name="wide"):
    """A study whose second arm is made of `overrides`."""
    return {"arms": {**TWO, name: list(overrides)}, "expect": {}}


# ---------------------------------------------------------------------------------------------------------------------
# Accepted.


@pytest.fixture(scope="module")
def as_it_is(tmp_path_factory):
    """A working folder with the study as it is: what is composed in it is remembered."""
    folder = tmp_path_factory.mktemp("study")
    write_experiment(folder)
    return folder


@pytest.fixture
def working_folder(as_it_is, tmp_path, monkeypatch):
    """Makes a working folder that has the study with changes, if any."""

    def enter(*changes):
        folder = tmp_path if changes else as_it_is
        if changes:
            write_experiment(folder, *changes)
        monkeypatch.chdir(folder)
        return folder

    return enter


@pytest.mark.slow
@pytest.mark.parametrize("experiment", DECLARED)
def test_every_arm_of_a_shipped_study_is_sound_and_run_alone_is_the_sweeps_cell(experiment):
    """Shown at the smoke profile; test_shipped_configs.py builds what the file itself says, which is cpu."""
    typed = (f"experiments={experiment}", "profile=smoke", "seed=2")
    study, cells = read_study(typed), plan(*typed)
    assert [one.cell.arm for one in cells] == list(study.arms)
    assert {one.run.folder.parent.name for one in cells} == {f"{experiment}-smoke"}, "budgets share no folder"
    assert len({one.run.variant for one in cells}) == len(cells)
    for one in cells:
        tuned = {one.cell.arm: 0.02} if study.tuning else None
        alone = expand_overrides(one.cell.overrides, tuned)
        assert expand_overrides(alone, tuned) == alone, "written out already"
        if study.tuning is None:
            assert alone == list(one.overrides)
            assert digest(read_cell(alone).values) == one.cell.digest


@pytest.mark.slow
@pytest.mark.parametrize("experiment", DECLARED)
def test_a_shipped_study_trains_what_its_results_are_of_whatever_the_defaults_come_to(experiment):
    with (EXPERIMENTS / experiment / "results.csv").open(encoding="utf-8", newline="") as file:
        recorded = {row["arm"]: row for row in csv.DictReader(file)}
    for one in plan(f"experiments={experiment}", "seed=1"):
        row, values = recorded[one.cell.arm], one.run.values
        cost = cost_of(values)
        counted = cost.steps, cost.tokens, cost.parameters, cost.training_flops_per_token
        assert counted == tuple(int(row[key]) for key in ("step", "tokens", "parameters", "flops_per_token"))
        schedule = row.get("schedule._target_") or "atomiclm.optim.Cosine"
        assert values["schedule"]["_target_"] == schedule
        assert values["schedule"].get("decay_fraction") == (0.2 if schedule.endswith("Decay") else None)
        assert (values["schedule"]["warmup_steps"], values["data"]["_target_"]) == (
            50,
            "atomiclm.data.PythonStandardLibrary",
        )


@pytest.mark.slow
@pytest.mark.parametrize("experiment", DECLARED)
def test_the_baseline_and_the_matched_arms_of_a_shipped_study_are_sound_at_the_gpu_profile(experiment):
    typed = (f"experiments={experiment}", "profile=gpu", "seed=1")
    study = read_study(typed)
    matched = [arm for arm, overrides in study.arms.items() if any(one.startswith("match=") for one in overrides)]
    cells = plan(*typed, f"arm={','.join(dict.fromkeys([study.baseline, *matched]))}")
    assert {one.run.folder.parent.name for one in cells} == {f"{experiment}-gpu"}
    assert cells[0].run.values["trainer"]["max_tokens"] == 80_000_000
    figures = {one.run.values["tokenizer"]["vocab_size"] for one in cells}
    assert experiment == "tokenizer_vocabulary" or len(figures) == 1


@pytest.mark.slow
def test_the_order_of_what_is_typed_does_not_matter(working_folder):
    working_folder()
    typed = [MINE, "arm=wide", "profile=smoke", "seed=3", "model/norm=layernorm", "model.num_layers=1", "optim.lr=0.1"]
    (there,) = plan(*typed)
    (back,) = plan(*typed[::-1])
    assert there.run.run_id == back.run.run_id
    assert there.run.folder == back.run.folder


@pytest.mark.slow
def test_what_is_typed_wins_over_the_arm_which_wins_over_the_profile_which_wins_over_the_file(working_folder):
    study = {
        "arms": {**TWO, "wide": ["model.dim=32", "trainer.batch_size=3"]},
        "profiles": {"smoke": ["trainer.batch_size=2", "trainer.max_tokens=5000", "optim.lr=0.5"]},
    }
    working_folder(study, {"trainer": {"batch_size": 1, "max_tokens": 9000}, "optim": {"lr": 0.1}})

    def settings(*typed):
        values = read_cell(expand_overrides([MINE, *typed])).values
        return values["trainer"]["batch_size"], values["trainer"]["max_tokens"], values["optim"]["lr"]

    assert settings() == (1, 9000, 0.1)
    assert settings("profile=smoke") == (2, 5000, 0.5)
    assert settings("profile=smoke", "arm=wide") == (3, 5000, 0.5)
    assert settings("profile=smoke", "arm=wide", "trainer.batch_size=4", "optim.lr=0.7") == (4, 5000, 0.7)


GOOD = {
    "as it is": ((), (), 4),
    "one arm": ((), ("arm=wide",), 2),
    "two arms by name": ((), ("arm=wide,narrow",), 4),
    "other seeds": ((), ("seed=7,8,9",), 6),
    "a range of seeds": ((), ("seed=range(3,6)",), 6),
    "seeds of the study": ((), ("study.seeds=[4,5,6]",), 6),
    "one cell": ((), ("arm=wide", "seed=1"), 1),
    "a profile": ((), ("profile=smoke",), 2),
    "a profile with other seeds": ((), ("profile=smoke", "study.seeds=[5,6]"), 4),
    "another axis": ((), ("model.num_layers=1,2",), 8),
    "an axis in brackets": ((), ("model.num_layers=choice(1,2)",), 8),
    "a group as an axis": ((), ("model/feedforward=swiglu,gelu", "seed=1"), 4),
    "options by a pattern": ((), ("model/feedforward=glob(rel*)", "seed=1", "arm=wide"), 2),
    "none of a group's options as an axis": ((), ("model/lookahead=null,parallel", "seed=1"), 4),
    "a match that changes nothing, as an axis": (
        ({"arms": TWO, "expect": {}}, {"match": {"baseline": ["model.dim=16"]}}),
        ("match=none,parameters", "seed=1"),
        1,
    ),
    "a value typed": ((), ("optim.lr=0.1",), 4),
    "a name typed": ((), ("name=other",), 4),
    "a folder typed": ((), ("output_dir=elsewhere",), 4),
    "tracking off": ((), ("tracking=off",), 4),
    "a margin typed": ((), ("study.margin=0.5",), 4),
    "an arm added": ((), ("+study.arms.wider=['model.dim=64']",), 6),
    "an arm changed": ((), ("study.arms.wide=['model.dim=64']",), 4),
    "an empty arm": (({"arms": {"narrow": [], "wide": ["model.dim=32"]}},), (), 4),
    "a single arm": (({"arms": TWO, "expect": {}},), (), 2),
    "an arm with a list": ((_arm("model.attention.window=[16,null]"),), (), 4),
    "an arm with a mapping": ((_arm("optim.lr_scales={head: 2}"),), (), 4),
    "an arm with none of a group": ((_arm("model/lookahead=null"),), (), 4),
    "an arm with plus signs": ((_arm("++optim.lr=0.5"),), (), 4),
    "an arm named none": ((_arm("model/position=none", name="none"),), (), 4),
    "an arm named with signs": ((_arm("optim.lr=0.5", name="lr0.5-x+y_z"),), (), 4),
    "a matched arm": (
        (
            _arm("model.dim=16", "model/feedforward=gelu", "match=parameters"),
            {"match": {"baseline": ["model.dim=16", "model/feedforward=swiglu"]}},
        ),
        (),
        4,
    ),
    "a tuned study": (({}, {"defaults": TUNED}), (), 4),
    "a tuned study, its setting typed": (({}, {"defaults": TUNED}), ("optim.lr=0.1",), 4),
    "a tuned study, its setting an axis": (({}, {"defaults": TUNED}), ("optim.lr=0.1,0.2", "seed=1001"), 4),
    "a growing study": (({}, {"defaults": GROWING}), (), 4),
    "no margin": (({"margin": None},), (), 4),
    "no study": (({"arms": None, "baseline": None, "expect": None},), (), 1),
}


@pytest.mark.one_in(60)
@pytest.mark.parametrize("case", GOOD)
def test_is_planned(case, working_folder):
    changes, typed, count = GOOD[case]
    folder = working_folder(*changes)
    cells = plan(MINE, *typed)
    assert len(cells) == count
    assert len({one.cell.digest for one in cells}) == count
    assert len({(one.cell.arm, one.cell.seed) for one in cells}) == count, "the table has a place for each"
    assert not (folder / "outputs").exists()


def test_seeds_are_the_outer_axis_so_that_an_interrupted_sweep_has_whole_comparisons(working_folder):
    working_folder()
    cells = [(one.cell.seed, one.cell.arm) for one in plan(MINE)]
    assert cells == [(1, "narrow"), (1, "wide"), (2, "narrow"), (2, "wide")]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("typed", "arms"),
    [
        (["optim.lr=0.1,0.2", "seed=3,1"], ["lr0.1", "lr0.2"]),
        (["model.num_layers=1,2", "++seed=3,1", "optim.lr=0.1,0.2"],
         [f"layers{layers} lr{lr}" for layers in (1, 2) for lr in (0.1, 0.2)]),
        ([MINE, "model.num_layers=1,2", "seed=3,1", "arm=wide"], ["wide layers1", "wide layers2"]),
    ],
)  # fmt: skip
def test_seeds_are_the_outer_axis_of_what_is_typed_too(typed, arms, working_folder):
    working_folder()
    small = ["model=tiny", "tokenizer=bytes"] if MINE not in typed else []
    cells = plan(*small, *typed)
    assert [(one.cell.seed, one.cell.arm) for one in cells] == [(seed, arm) for seed in (3, 1) for arm in arms]


def test_a_cell_is_called_by_what_is_swept_first(working_folder):
    working_folder()
    fixed = ["trainer.max_tokens=5000", "trainer.batch_size=3", "model.num_layers=1", "model.context_length=64"]
    cells = plan(MINE, "arm=wide", "seed=1", *fixed, "optim.weight_decay=0.125,0.25")
    for one, value in zip(cells, ("0.125", "0.25"), strict=True):
        assert one.run.run_id.startswith(f"wide-weight_decay={value}-"), one.run.run_id


def test_axes_beside_the_arms_are_told_in_the_arms_names(working_folder):
    working_folder()
    arms = {one.cell.arm for one in plan(MINE, "model.num_layers=1,2", "seed=1")}
    assert arms == {"narrow layers1", "narrow layers2", "wide layers1", "wide layers2"}


# ---------------------------------------------------------------------------------------------------------------------
# Refused.

BAD = {
    "an unknown arm": ((), ("arm=wid",), ["arm: 'wid' is no arm", "'wide'"]),
    "an unknown arm among known ones": ((), ("arm=narrow,broad",), ["arm: 'broad'", "valid names: narrow, wide"]),
    "an arm without a study": (({"arms": None, "baseline": None, "expect": None},), ("arm=a",), ["arm: 'a'", "no exp"]),
    "an unknown profile": ((), ("profile=smok",), ["profile: 'smok' is no profile", "'smoke'"]),
    "a typo in an arm": ((_arm("model.dimm=32"),), (), ["model.dimm", "'dim'", "arm=wide"]),
    "an unknown group in an arm": ((_arm("modle=small"),), (), ["modle", "'model'", "arm=wide"]),
    "an unknown option in an arm": ((_arm("optim=muno"),), (), ["optim: no option 'muno'", "'muon'", "arm=wide"]),
    "a typo behind + in an arm": ((_arm("+model.dimm=32"),), (), ["model.dimm", "'dim'", "arm=wide"]),
    "an impossible value in an arm": ((_arm("model.attention.num_heads=3"),), (), ["num_heads=3", "arm=wide"]),
    "an arm that is no override": ((_arm("model.dim"),), (), ["study.arms.wide: 'model.dim'", "key=value"]),
    "an arm with a colon": ((_arm("model.dim: 32"),), (), ["study.arms.wide", "key=value"]),
    "an arm that is a text": (({"arms": {**TWO, "wide": "model.dim=32"}},), (), ["study.arms.wide", "not a list"]),
    "an arm that is a mapping": (({"arms": {**TWO, "wide": {"model.dim": 32}}},), (), ["study.arms", "not a list"]),
    "arms that are a list": (({"arms": ["narrow", "wide"]},), (), ["experiments/mine", "mapping"]),
    "an arm with several values": ((_arm("model.dim=32,64"),), (), ["study.arms.wide", "several values"]),
    "an arm that sets a key twice": ((_arm("model.dim=8", "model.dim=32"),), (), ["study.arms.wide", "twice"]),
    "an arm that sets the seed": ((_arm("model.dim=32", "seed=3"),), (), ["study.arms.wide: 'seed=3'", "study.seeds"]),
    "an arm that sets the name": ((_arm("model.dim=32", "name=x"),), (), ["study.arms.wide: 'name=x'", "one folder"]),
    "an arm that chooses an arm": ((_arm("arm=narrow", "model.dim=32"),), (), ["study.arms.wide: 'arm=narrow'"]),
    "an arm that changes the study": ((_arm("model.dim=32", "study.margin=1"),), (), ["study.arms.wide", "study is"]),
    "an arm scored on other text": ((_arm("held_out=dev"),), (), ["study.arms.wide", "the same text"]),
    "an arm that is another": ((_arm("model.dim=16"),), (), ["sweep: cells 1 and 2", "arm=narrow", "arm=wide"]),
    "an arm that differs in what does not count": (
        (_arm("model.dim=16", "runtime.log_every_steps=3"),), (), ["sweep: cells 1 and 2", "must differ in tokenizer"],
    ),
    "an arm matched to what it is": (
        (_arm("model.dim=16", "match=parameters"), {"match": {"baseline": ["model.dim=16"]}}),
        (),
        ["sweep: cells 1 and 2 are the same run"],
    ),
    "arms undone by what is typed": ((), ("model.dim=64",), ["sweep: cells 1 and 2", "overrides an arm"]),
    "an arm named by a number": ((_arm("model.dim=32", name=8),), (), ["study.arms.8: '8' is not text"]),
    "an arm named null": ((_arm("model.dim=32", name="null"),), (), ["study.arms: 'null'"]),
    "an arm with a comma": ((_arm("model.dim=32", name="a,b"),), (), ["study.arms: 'a,b'"]),
    "an arm declared twice": (
        (None, None, HEADER + "study: {baseline: a, arms: {a: [], a: [model.dim=8]}, seeds: [1]}"), (),
        ["mine.yaml", "duplicate key a"],
    ),
    "no baseline": (({"baseline": None},), (), ["study.baseline: baseline=None is none of the arms: narrow, wide"]),
    "a baseline that is no arm": (({"baseline": "wid"},), (), ["study.baseline: baseline='wid'", "narrow, wide"]),
    "an expectation of no arm": (({"expect": {"wid": "better"}},), (), ["study.expect: 'wid'"]),
    "an expectation of the baseline": (({"expect": {"narrow": "worse"}},), (), ["study.expect: 'narrow'"]),
    "an expectation in other words": (({"expect": {"wide": "wins"}},), (), ["study.expect", "'wins'", "equivalent"]),
    "an expectation without a source": (({"source": None},), (), ["study.expect", "`source`"]),
    "seeds twice": (({"seeds": [1, 1]},), (), ["study.seeds: seeds=[1, 1]", "different"]),
    "seeds typed twice": ((), ("seed=1,1",), ["sweep: cells 1 and 3"]),
    "no seeds": (({"seeds": None},), (), ["study.seeds: a study with arms needs at least one"]),
    "a number of seeds": (({"seeds": 3},), (), ["study.seeds: 3 is not a list"]),
    "a seed below zero": (({"seeds": [-1]},), (), ["seed: -1 is not a whole number from 0"]),
    "a list of seeds typed as one": ((), ("seed=[1,2]",), ["seed: [1, 2]"]),
    "a margin of nothing": (({"margin": 0},), (), ["study.margin: margin=0 is not positive"]),
    "a margin in words": (({"margin": "small"},), (), ["study.margin: 'small'", "a number"]),
    "a direction": (({"direction": "down"},), (), ["study.direction: 'down'", "lower", "higher"]),
    "a typo in the study": (({"qestion": "?"},), (), ["study.qestion", "'question'"]),
    "a typo beside the study": ((None, {"trianer": {"max_steps": 3}}), (), ["trianer", "'trainer'"]),
    "a study in a word": ((None, None, HEADER + "name: mine\nstudy: gqa\n"), (), ["study: 'gqa' is not a mapping"]),
    "an experiment that is a list": ((None, None, HEADER + "- name: mine\n"), (), ["mine.yaml", "is a list"]),
    "a profile called cpu": (({"profiles": {"cpu": ["seed=1"]}},), (), ["study.profiles: cpu is the name"]),
    "a profile that sets the seed": (({"profiles": {"smoke": ["seed=3"]}},), (), ["study.profiles.smoke", "seed=3"]),
    "a typo in a profile": (
        ({"profiles": {"smoke": ["trainer.max_tokes=3"]}},), ("profile=smoke",), ["trainer.max_tokes", "'max_tokens'"],
    ),
    "several names": ((), ("name=x,y",), ["sweep: cells 1 and 3 are the same run"]),
    "several ways of tracking": ((), ("tracking=default,off",), ["sweep: cells 1 and 3"]),
    "several texts to be scored on": ((), ("held_out=validation,dev",), ["held_out", "one text"]),
    "several profiles": ((), ("profile=cpu,smoke",), ["name", "one folder"]),
    "a match that cannot be solved": (
        (_arm("model.num_layers=40", "match=parameters"), {"match": {"baseline": ["model.num_layers=1"]}}), (),
        ["match: no model.feedforward.hidden_dim", "arm=wide"],
    ),
    "a match to nothing": ((_arm("model.num_layers=1", "match=parameters"),), (), ["match: baseline is empty"]),
    "one seed to begin with": (({"seeds": [1]}, {"defaults": GROWING}), (), ["study.sequential", "at least 2 seeds"]),
    "fewer seeds at most than at first": (
        ({"seeds": [1, 2, 3], "sequential": {"max_seeds": 2}}, {"defaults": GROWING}), (), ["sequential.max_seeds=2"],
    ),
    "a tuning that was not chosen": (({"tuning": {"values": [1, 2, 4]}},), (), ["study.tuning", "_target_"]),
    "a grid that does not grow by one factor": (
        ({"tuning": {"values": [0.01, 0.02, 0.03]}}, {"defaults": TUNED}), (), ["tuning.values", "by about one factor"],
    ),
    "a grid of two": (({"tuning": {"values": [1, 2]}}, {"defaults": TUNED}), (), ["tuning.values", "at least three"]),
    "unequal trials": (
        ({"tuning": {"grids": {"wide": [1, 2, 4, 8]}}}, {"defaults": TUNED}), (), ["grids.wide", "equal trials"],
    ),
    "a grid of no arm": (({"tuning": {"grids": {"wid": [1, 2, 4]}}}, {"defaults": TUNED}), (), ["tuning.grids: 'wid'"]),
    "a tuned setting that is none": (({"tuning": {"key": "optim.lrr"}}, {"defaults": TUNED}), (), ["optim.lrr"]),
    "a tuned setting that an arm fixes": (
        (_arm("optim.lr=0.1"), {"defaults": TUNED}), (), ["study.arms.wide", "optim.lr", "tuning.grids"],
    ),
    "tuning on the seeds that report": (
        ({"tuning": {"seeds": [2]}}, {"defaults": TUNED}), (), ["study.tuning.seeds: [2]", "flatter"],
    ),
    "reporting on the seeds of the tuning": (({}, {"defaults": TUNED}), ("seed=1,1001",), ["seed: [1001]", "flatters"]),
    "a tuned study with another axis": (
        ({}, {"defaults": TUNED}), ("model.num_layers=1,2",), ["model.num_layers", "takes no other axis"],
    ),
}  # fmt: skip


@pytest.mark.one_in(30)
@pytest.mark.parametrize("case", BAD)
def test_is_refused_with_path_and_rule(case, working_folder):
    changes, typed, words = BAD[case]
    folder = working_folder(*changes)
    with pytest.raises(ConfigError) as refused:
        plan(MINE, *typed)
    for word in words:
        assert word in str(refused.value)
    assert "\n  " in str(refused.value), "path: rule, a line each"
    assert not (folder / "outputs").exists()


def test_a_study_that_declares_factors_has_a_cell_for_each_combination_and_seed(working_folder):
    factors = {"width": {"model.dim": [16, 32]}, "ffn": {"model/feedforward": ["swiglu", "gelu"]}}
    working_folder({"arms": None, "expect": None, "baseline": None, "factors": factors})
    cells = plan(MINE)
    arms = ["width16-swiglu", "width16-gelu", "width32-swiglu", "width32-gelu"]
    assert [(one.cell.arm, one.cell.seed) for one in cells] == [(arm, seed) for seed in (1, 2) for arm in arms]
    assert [one.run.values["model"]["dim"] for one in cells[:4]] == [16, 16, 32, 32]
    (alone,) = plan(MINE, "arm=width32-gelu", "seed=1")
    assert alone.run.run_id == cells[3].run.run_id


def test_a_level_that_is_no_option_of_a_group_reaches_the_launcher_in_hydras_words(working_folder):
    """`group=null` is Hydra's in a list of defaults only."""
    factors = {"gate": {"model/attention/gate": [None, "headwise"]}}
    working_folder({"arms": None, "expect": None, "baseline": None, "factors": factors})
    first, second = plan(MINE, "seed=1")
    assert "~model/attention/gate" in first.job
    assert "model/attention/gate=headwise" in second.job


@pytest.mark.slow
def test_the_faults_of_all_arms_are_told_at_once_and_each_only_once(working_folder):
    arms = {**TWO, "one": ["optim.lrr=1"], "two": ["model/norm=rmsnrom"], "three": ["model.dim=-1"]}
    working_folder({"arms": arms, "expect": {}})
    with pytest.raises(ConfigError) as refused:
        plan(MINE)
    paths = [fault.path for fault in refused.value.faults]
    assert {"optim.lrr", "model/norm", "model.dim"} <= set(paths)
    assert len(set(paths)) == len(paths), "not once more for the second seed"


@pytest.mark.slow
def test_the_cells_that_are_one_run_are_told_by_their_numbers(working_folder):
    working_folder()
    cells = [[MINE, f"arm={arm}", "seed=1", *more] for arm in ("narrow", "wide") for more in ([], ["tracking=off"])]
    with pytest.raises(ConfigError) as refused:
        validate_cells(cells, [cell[1] for cell in cells])
    assert re.findall(r"cells \d and \d", str(refused.value)) == ["cells 1 and 2", "cells 3 and 4"]


# ---------------------------------------------------------------------------------------------------------------------
# Through the real command.


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", ["a typo in an arm", "no baseline", "reporting on the seeds of the tuning"])
def test_the_command_refuses_before_anything_is_written(case, tmp_path):
    changes, typed, words = BAD[case]
    write_experiment(tmp_path, *changes)
    done = run(tmp_path, "train", "-m", MINE, *typed)
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["experiments"]


@pytest.mark.slow
def test_the_command_refuses_the_sweeps_of_earlier_versions(tmp_path):
    text = HEADER + "name: mine\nhydra: {sweeper: {params: {seed: '1,2'}}}\n"
    write_experiment(tmp_path, text=text)
    done = run(tmp_path, "train", "-m", MINE)
    assert done.returncode == 2
    assert "hydra.sweeper.params" in done.stderr
    assert "study.arms" in done.stderr


@pytest.mark.slow
def test_the_commands_take_an_experiment_of_a_folder_that_is_given(tmp_path):
    """By `plan`, which composes as `train` does; those of the working folder are what the tests above use."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    write_experiment(tmp_path / "elsewhere")
    flags = ("--config-dir", "../elsewhere")
    done = run(tmp_path / "here", "plan", *flags, MINE)
    assert done.returncode == 0, done.stderr
    assert "mine: 2 arms" in done.stdout
    one = run(tmp_path / "here", "plan", *flags, MINE, "arm=wide", "profile=smoke")
    assert one.returncode == 0, one.stderr
    assert one.stdout.startswith("mine-smoke/wide")


@pytest.mark.slow
def test_the_command_tells_a_damaged_ledger_from_which_it_would_take_a_tuned_value(tmp_path):
    write_experiment(tmp_path, {}, {"defaults": TUNED})
    alone = run(tmp_path, "train", MINE, "arm=wide")
    assert alone.returncode == 2
    assert "optim.lr" in alone.stderr
    assert "run the study with -m" in alone.stderr
    assert not (tmp_path / "outputs").exists()
    (tmp_path / "outputs" / "mine").mkdir(parents=True)
    (tmp_path / "outputs" / "mine" / "study.json").write_text("{")
    damaged = run(tmp_path, "train", MINE, "arm=wide")
    assert damaged.returncode == 2
    assert "study.json" in damaged.stderr
    assert "Traceback" not in damaged.stderr


# ---------------------------------------------------------------------------------------------------------------------
# What the sweep writes before it trains.


class NoLauncher(CellLauncher):
    """Stands where cells are launched, and trains none."""

    def __init__(self):
        self.launched = []
        super().__init__(self._launch, one_by_one=False)

    def _launch(self, cells, first):
        self.launched.append([(one.cell.arm, one.cell.seed) for one in cells])
        return [None] * len(cells)


def _sweep(launcher, *typed):
    """Run the sweep, without a training."""
    study = read_study(typed)
    with initialized():
        cells = plan_sweep(typed, study)
    Sweep(typed, study, cells[0].run.folder.parent, launcher).run(cells)
    return read_ledger(cells[0].run.folder.parent), cells


@pytest.mark.slow
def test_a_changed_prediction_is_kept_beside_the_old_one_with_the_number_of_finished_cells(working_folder, capsys):
    working_folder({}, {"defaults": [*SMALL, {"override /data": "markov"}]})
    launcher = NoLauncher()
    first, cells = _sweep(launcher, MINE)
    assert [one.finished_cells for one in first.declared] == [0]
    assert first.cells == [one.cell for one in cells]
    for one in cells[:3]:
        one.run.folder.mkdir(parents=True)
        write_summary(one.run.folder / "summary.json", {"state": "diverged", "variant": one.run.variant})
    same, _ = _sweep(launcher, MINE)
    assert same.declared == first.declared
    assert "the prediction was changed" not in capsys.readouterr().out
    changed, _ = _sweep(launcher, MINE, "study.expect={wide: worse}")
    assert changed.declared[0] == first.declared[0]
    assert [one.finished_cells for one in changed.declared] == [0, 3]
    assert "the prediction was changed after 3 runs had ended; both are kept" in capsys.readouterr().out
    assert launcher.launched == [[(one.cell.arm, one.cell.seed) for one in cells], [("wide", 2)], [("wide", 2)]]


@pytest.mark.slow
def test_more_seeds_train_only_the_new_ones_and_the_ledger_keeps_the_old_cells(working_folder):
    working_folder({}, {"defaults": [*SMALL, {"override /data": "markov"}]})
    launcher = NoLauncher()
    first, cells = _sweep(launcher, MINE)
    for one in cells:
        one.run.folder.mkdir(parents=True)
        write_summary(one.run.folder / "summary.json", {"state": "diverged", "variant": one.run.variant})
    later, new = _sweep(launcher, MINE, "seed=3")
    assert launcher.launched[1] == [("narrow", 3), ("wide", 3)]
    assert [one.digest for one in later.cells] == [
        *(one.cell.digest for one in new),
        *(one.digest for one in first.cells),
    ]


@pytest.mark.slow
def test_a_sweep_that_is_no_study_keeps_what_others_trained_but_for_arms_of_its_own_names(working_folder):
    working_folder({}, {"defaults": [*SMALL, {"override /data": "markov"}]})
    small = ("model=tiny", "tokenizer=bytes", "data=markov", "seed=1")
    _, cells = _sweep(NoLauncher(), *small, "optim.lr=0.1,0.2,0.3")
    for one in cells[:2]:
        one.run.folder.mkdir(parents=True)
    later, _ = _sweep(NoLauncher(), *small, "optim.lr=0.2,0.4", "model.dim=16")
    assert [cell.arm for cell in later.cells] == ["lr0.2", "lr0.4", "lr0.1"], "lr=0.3 was not trained"


@pytest.mark.slow
def test_a_sweep_that_is_no_study_does_not_replace_a_study(working_folder):
    folder = working_folder({}, {"defaults": [*SMALL, {"override /data": "markov"}]})
    _sweep(NoLauncher(), MINE)
    before = (folder / "outputs" / "mine" / "study.json").read_bytes()
    with pytest.raises(UserError, match=r"name: outputs/mine holds the study of `.*experiments=mine`.* another name="):
        _sweep(NoLauncher(), "model=tiny", "tokenizer=bytes", "data=markov", "name=mine", "optim.lr=0.1,0.2")
    assert (folder / "outputs" / "mine" / "study.json").read_bytes() == before


def test_a_damaged_ledger_stops_the_sweep_as_a_users_matter(working_folder):
    folder = working_folder({}, {"defaults": [*SMALL, {"override /data": "markov"}]})
    (folder / "outputs" / "mine").mkdir(parents=True)
    (folder / "outputs" / "mine" / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json"):
        _sweep(NoLauncher(), MINE)


@pytest.mark.slow
def test_another_sweeper_gets_the_figure_of_every_run(tmp_path):
    """As Optuna's does: `train` returns the bits per byte. Hydra's own basic sweeper is always installed."""
    text = ("data=text", f"data.path={corpus(tmp_path)}", *TINY, "trainer.max_steps=1", "evaluation.samples=0")
    done = run(tmp_path, "train", "-m", "hydra/sweeper=basic", *text, "optim.lr=0.001,0.002", "schedule.warmup_steps=0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bits per byte") >= 2
    assert len(list((tmp_path / "outputs" / "runs").glob("*/summary.json"))) == 2
    assert not (tmp_path / "outputs" / "runs" / "study.json").exists(), "a ledger is our sweeper's"
