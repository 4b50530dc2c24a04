"""A setting is chosen for every arm by equal trials on a dev split; an optimum at the end of the grid is said to be."""

import math
from types import SimpleNamespace

import pytest
from config.sketched import MINE, TUNED, plan, read_study, write_experiment

from atomiclm.config.compose import initialized
from atomiclm.config.errors import ConfigError
from atomiclm.config.expand_overrides import expand_overrides
from atomiclm.sweep.ledger import StudyLedger, TunedValue, write_ledger
from atomiclm.sweep.plan import arms_of, plan_cells, plan_sweep, validate_cells
from atomiclm.sweep.study import Study, Tuning
from atomiclm.sweep.tuning import Trial, choose, plan_trials, trial_overrides, tune
from atomiclm.tracking import write_summary

GRID = [0.01, 0.02, 0.04]


def _study(arms=("a", "b"), metric="validation/bits_per_byte", direction="lower", **tuning):
    return Study(
        baseline=arms[0],
        arms={arm: [] for arm in arms},
        seeds=[1, 2],
        metric=metric,
        direction=direction,
        tuning=Tuning("optim.lr", **{"values": GRID, "seeds": [1001, 1002], **tuning}),
    )


class Trainer:
    """Trains trials by writing the summaries that a known figure of each arm, value and seed makes."""

    def __init__(self, folder, study, figure):
        self.folder = folder
        self.study = study
        self.figure = figure
        self.trained = []  # (arm, value, seed), in order
        self.rounds = 0

    def plan(self, grids):
        listed = trial_overrides(self.study.tuning, arms_of([], self.study), ["experiments=x"], "x", grids)
        seeds = [int(next(one for one in own if one.startswith("seed="))[5:]) for _, _, own in listed]
        return [
            Trial(
                arm,
                value,
                SimpleNamespace(run=SimpleNamespace(folder=self.folder / f"{arm} {value!r} {seed}"), seed=seed),
            )
            for (arm, value, _), seed in zip(listed, seeds, strict=True)
        ]

    def train(self, cells):
        self.rounds += 1
        for one in cells:
            folder = one.run.folder
            if folder.exists():
                continue
            arm, value, _ = folder.name.split()
            self.trained.append((arm, float(value), one.seed))
            found = self.figure(arm, float(value), one.seed)
            if found is None:
                continue  # failed before it had a summary
            folder.mkdir(parents=True)
            state = "diverged" if found == "diverged" else "done"
            body = {"state": state, self.study.metric: 9.9 if found == "diverged" else found}
            write_summary(folder / "summary.json", body)

    def tune(self):
        return tune(self.study, self.study.arms, self.plan, self.train)


def _parabola(optimum, value):
    """Bits per byte whose least is at `optimum` on the scale of the grid, which is logarithmic."""
    return 2 + math.log2(value / optimum) ** 2


def test_each_arm_gets_its_own_optimum(tmp_path):
    optima = {"a": 0.02, "b": 0.04, "c": 0.01}
    study = _study(("a", "b", "c"), max_extensions=1)
    trainer = Trainer(tmp_path, study, lambda arm, value, seed: _parabola(optima[arm], value) + 0.01 * (seed - 1001))
    chosen = trainer.tune()
    assert {arm: choice.value for arm, choice in chosen.items()} == optima
    # b and c have their best at an end of the first grid, so all arms are tried one further at both ends.
    assert all(choice.interior for choice in chosen.values())
    assert {tuple(choice.trials) for choice in chosen.values()} == {("0.005", "0.01", "0.02", "0.04", "0.08")}
    assert chosen["a"].trials["0.04"] == pytest.approx(3 + 0.005), "the mean over the tuning seeds"


def test_all_arms_get_equal_trials_and_none_is_trained_twice(tmp_path):
    study = _study()
    trainer = Trainer(tmp_path, study, lambda arm, value, seed: _parabola({"a": 0.02, "b": 0.08}[arm], value))
    trainer.tune()
    assert len(set(trainer.trained)) == len(trainer.trained)
    by_arm = {arm: sorted(one[1:] for one in trainer.trained if one[0] == arm) for arm in ("a", "b")}
    assert by_arm["a"] == by_arm["b"]
    assert {seed for _, _, seed in trainer.trained} == {1001, 1002}


def test_the_grid_grows_only_where_an_optimum_is_at_its_end_and_only_so_often(tmp_path):
    study = _study(max_extensions=2)
    trainer = Trainer(tmp_path, study, lambda arm, value, seed: _parabola(0.02 if arm == "a" else 10, value))
    chosen = trainer.tune()
    assert trainer.rounds == 3
    assert list(chosen["a"].trials) == ["0.01", "0.02", "0.04", "0.08", "0.16"]
    assert (chosen["a"].value, chosen["a"].interior) == (0.02, True)
    assert (chosen["b"].value, chosen["b"].interior) == (0.16, False)


def test_a_fixed_grid_is_tried_once(tmp_path):
    trainer = Trainer(tmp_path, _study(max_extensions=0), lambda arm, value, seed: value)
    assert trainer.tune()["a"] == TunedValue(0.01, {"0.01": 0.01, "0.02": 0.02, "0.04": 0.04}, interior=False)
    assert trainer.rounds == 1


def test_arms_have_grids_of_their_own_extended_by_their_own_factor(tmp_path):
    study = _study(grids={"b": [1.0, 3.0, 9.0]}, max_extensions=1)
    trainer = Trainer(tmp_path, study, lambda arm, value, seed: -value)
    chosen = trainer.tune()
    assert (list(chosen["a"].trials), chosen["a"].value) == (["0.01", "0.02", "0.04", "0.08"], 0.08)
    assert (list(chosen["b"].trials), chosen["b"].value) == (["1.0", "3.0", "9.0", "27.0"], 27.0)


def test_a_metric_of_which_more_is_better_is_maximised(tmp_path):
    study = _study(metric="validation/accuracy", direction="higher")
    chosen = Trainer(tmp_path, study, lambda arm, value, seed: 3 - _parabola(0.02, value)).tune()
    assert chosen["a"].value == 0.02
    assert chosen["a"].interior


@pytest.mark.parametrize("fate", ["diverged", None, math.nan])
def test_a_value_of_which_one_trial_diverged_or_failed_is_ruled_out_and_bounds_the_optimum(tmp_path, fate):
    """0.04 would be the best by the seed that survived."""

    def figure(arm, value, seed):
        return fate if value == 0.04 and seed == 1002 else _parabola(0.04, value)

    trainer = Trainer(tmp_path, _study(max_extensions=2), figure)
    chosen = trainer.tune()["a"]
    assert chosen.value == 0.02
    assert chosen.interior
    assert math.isnan(chosen.trials["0.04"])
    assert trainer.rounds == 1, "its neighbour above is known to be worse"


def test_an_arm_of_which_nothing_trained_to_its_end_is_told(tmp_path):
    trainer = Trainer(tmp_path, _study(), lambda arm, value, seed: None if arm == "b" else 2.0)
    with pytest.raises(ValueError, match=r"optim\.lr: none of 0\.01, 0\.02, 0\.04 trained to its end"):
        trainer.tune()


def test_of_equal_values_the_smaller_is_chosen():
    tuning = Tuning("optim.lr", GRID)
    chosen = choose(tuning, GRID, {0.01: [2.5], 0.02: [2.0], 0.04: [2.0]}, is_lower_better=True)
    assert chosen.value == 0.02


def test_a_longer_grid_holds_the_shorter_one_to_the_last_digit():
    """Otherwise the trials of the first round would be trained again under a value that differs in its last bit."""
    for values in (GRID, [1e-3, 3e-3, 9e-3], [0.1, 0.3162, 1.0], [5e-3, 1e-2, 2e-2]):
        tuning = Tuning("optim.lr", values)
        assert tuning.grid("a") == list(values)
        for lower in range(3):
            for higher in range(3):
                longer = tuning.grid("a", lower, higher)
                assert len(longer) == len(values) + lower + higher
                assert longer[lower : lower + len(values)] == list(values)
                assert longer == sorted(set(longer))
                if lower and higher:
                    assert set(tuning.grid("a", lower - 1, higher - 1)) < set(longer)
    assert Tuning("optim.lr", [1e-3, 3e-3, 9e-3]).grid("a", lower=1)[0] == 0.000333333, "a name and a hash hang on it"


# ---------------------------------------------------------------------------------------------------------------------
# With configurations.


@pytest.fixture
def tuned_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_experiment(tmp_path, {"tuning": {"values": GRID, "seeds": [1001, 1002]}}, {"defaults": TUNED})
    return read_study([MINE])


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["cpu", "smoke"])
def test_every_trial_is_scored_on_the_dev_split_under_its_own_seeds_in_a_folder_apart(tuned_study, profile):
    study = read_study([MINE, f"profile={profile}"])
    own = [MINE, f"profile={profile}"]
    name = "mine" if profile == "cpu" else "mine-smoke"
    listed = trial_overrides(study.tuning, arms_of(own, study), own, name, {arm: GRID for arm in study.arms})
    with initialized():
        cells = validate_cells([overrides for _, _, overrides in listed], [arm for arm, _, _ in listed])
    assert len(cells) == len(listed) == 2 * 3 * 2
    assert not {one.cell.seed for one in cells} & set(study.seeds)
    for (arm, value, _), one in zip(listed, cells, strict=True):
        values = one.run.values
        assert values["held_out"] == "dev"
        assert values["data"]["_target_"] == "atomiclm.data.DevSplit"
        assert values["optim"]["lr"] == value
        assert values["model"]["dim"] == {"narrow": 16, "wide": 32}[arm]
        assert one.run.folder.parent.name == f"{name}-tuning"


def test_tuned_values_are_those_of_the_cells_each_arm_its_own(tuned_study):
    cells = plan_cells([MINE], tuned_study, [1], {"narrow": 0.04, "wide": 0.0025})
    assert {one.cell.arm: one.run.values["optim"]["lr"] for one in cells} == {"narrow": 0.04, "wide": 0.0025}


def test_a_cell_run_alone_takes_its_value_from_the_ledger_and_is_the_sweeps_cell(tuned_study, tmp_path):
    (there,) = plan_cells([MINE, "arm=wide"], tuned_study, [1], {"wide": 0.0025})
    with pytest.raises(ConfigError, match=r"optim\.lr: is tuned for every arm .* no value for wide yet; run the study"):
        expand_overrides(there.cell.overrides)
    tuned = {"wide": TunedValue(0.0025, {"0.0025": 2.0}, interior=False)}
    write_ledger(tmp_path / "outputs" / "mine", StudyLedger("mine", "", [], tuned_study, tuned=tuned))
    assert expand_overrides(there.cell.overrides) == list(there.overrides)
    with pytest.raises(ConfigError, match="no value for narrow yet"):
        expand_overrides([MINE, "arm=narrow"])


def test_a_value_that_is_typed_needs_no_tuning(tuned_study):
    assert {one.run.values["optim"]["lr"] for one in plan(MINE, "optim.lr=0.3", "seed=1")} == {0.3}
    assert "optim.lr=0.3" in expand_overrides([MINE, "arm=wide", "optim.lr=0.3"])


# ---------------------------------------------------------------------------------------------------------------------
# Of a sweep from the command line.

TYPED = ["model=tiny", "model.attention.num_kv_heads=1,4", "model/feedforward=swiglu,gelu", "seed=1,2"]


def test_the_arms_of_a_typed_sweep_are_the_combinations_of_what_it_sweeps():
    assert arms_of(TYPED, Study()) == {
        "kv1 swiglu": ["model.attention.num_kv_heads=1", "model/feedforward=swiglu"],
        "kv1 gelu": ["model.attention.num_kv_heads=1", "model/feedforward=gelu"],
        "kv4 swiglu": ["model.attention.num_kv_heads=4", "model/feedforward=swiglu"],
        "kv4 gelu": ["model.attention.num_kv_heads=4", "model/feedforward=gelu"],
    }
    assert arms_of(["model=tiny", "seed=1,2"], Study()) == {"default": []}


def test_every_arm_of_a_typed_sweep_gets_its_own_value_and_its_trials_the_same_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study(tuning=Tuning("optim.lr", GRID, [1001]))
    with initialized():
        arms = arms_of(TYPED, study)
        chosen = dict(zip(arms, (0.01, 0.02, 0.04, 0.02), strict=True))
        cells = plan_cells(TYPED, study, (), chosen)
        listed = trial_overrides(study.tuning, arms, TYPED, "mine", dict.fromkeys(arms, GRID))
        trials = validate_cells([overrides for _, _, overrides in listed], [arm for arm, _, _ in listed])
    assert {one.cell.arm: one.run.values["optim"]["lr"] for one in cells} == chosen
    assert all(f"optim.lr={chosen[one.cell.arm]}" in one.cell.command for one in cells), "each command stands alone"
    assert len(trials) == 4 * len(GRID)
    for (arm, value, _), trial in zip(listed, trials, strict=True):
        assert trial.run.values["optim"]["lr"] == value
        assert (trial.cell.seed, trial.run.values["held_out"]) == (1001, "dev")
        (own,) = (one.run.values for one in cells if one.cell.arm == arm and one.cell.seed == 1)
        assert all(trial.run.values["model"][part] == own["model"][part] for part in ("attention", "feedforward"))


def test_a_seed_that_tunes_does_not_report():
    study = Study(tuning=Tuning("optim.lr", GRID, [2]))
    with pytest.raises(ConfigError, match=r"seed: \[2\] are seeds of study\.tuning"):
        plan_cells(TYPED, study, (), dict.fromkeys(arms_of(TYPED, study), 0.01))


def test_of_two_arms_that_a_match_makes_one_run_one_is_tuned_and_trained(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    typed = ["model=tiny", "seed=1,2", "match=none,parameters", "match.baseline=['model.attention.num_kv_heads=4']"]
    typed.append("model.attention.num_kv_heads=1,4")
    study = Study(tuning=Tuning("optim.lr", GRID, [1001]))
    with initialized():
        planned = {one.cell.arm for one in plan_sweep(typed, study)}
        assert (len(arms_of(typed, study)), len(planned)) == (4, 3)
        arms = {arm: own for arm, own in arms_of(typed, study).items() if arm in planned}
        trials = plan_trials(study.tuning, arms, typed, "mine", dict.fromkeys(arms, GRID))
        assert len(trials) == 3 * len(GRID)
        assert {one.cell.arm for one in plan_cells(typed, study, (), dict.fromkeys(arms, 0.02))} == planned


def test_a_grid_of_an_arm_that_is_not_swept_is_refused():
    study = Study(tuning=Tuning("optim.lr", GRID, [1001], {"kv1 relu": GRID}))
    with pytest.raises(
        ConfigError, match=r"study\.tuning\.grids: 'kv1 relu' is none of the arms: kv1 swiglu, kv1 gelu"
    ):
        arms_of(TYPED, study)
