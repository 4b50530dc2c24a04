"""`study.json` says what a sweep set out to do: it comes back as it was written, and remembers every prediction."""

import json
import math
import shlex
from dataclasses import fields, replace

import pytest

from atomiclm.sweep.ledger import (
    LEDGER_FILE,
    Cell,
    Declared,
    StudyLedger,
    TunedValue,
    place_of,
    read_ledger,
    write_ledger,
)
from atomiclm.sweep.study import Sequential, Study, Tuning
from atomiclm.tracking import Place, RunFolder

STUDY = Study(
    question="Does it matter?",
    prediction="Hardly.",
    source="own expectation",
    expect={"b": "worse"},
    baseline="a",
    arms={"a": [], "b": ["model.dim=32"]},
    seeds=[1, 2],
    margin=0.01,
    tuning=Tuning("optim.lr", [1e-3, 2e-3, 4e-3], [1001]),
    sequential=Sequential(6),
    profiles={"smoke": ["trainer.max_tokens=8_000"]},
    fail_fast=True,
)
FULL = StudyLedger(
    name="mine",
    command="atomiclm train -m experiments=mine",
    cells=[
        Cell("a", 1, "a-seed=1-00000000", ["experiments=mine", "arm=a", "seed=1"]),
        Cell("b", 1, "b-lr=0.002-seed=1-0000000f", ["experiments=mine", "arm=b", "model.betas=[0.9, 0.99]", "seed=1"]),
    ],
    study=STUDY,
    declared=[Declared("ab" * 32, "2026-11-22T10:00:00+00:00", 0), Declared("cd" * 32, "2026-11-23T10:00:00+00:00", 3)],
    tuned={"a": TunedValue(0.002, {"0.001": 2.1, "0.002": 2.0, "0.004": 2.2}, interior=True)},
    looks=[2, 4],
    profile="gpu",
    threads=1,
    cores=2,
)


def test_every_field_comes_back(tmp_path):
    empty = StudyLedger("", "", [], Study())
    assert all(getattr(FULL, field.name) != getattr(empty, field.name) for field in fields(StudyLedger))
    write_ledger(tmp_path / "new" / "mine", FULL)
    assert read_ledger(tmp_path / "new" / "mine") == FULL
    write_ledger(tmp_path, empty)
    back = read_ledger(tmp_path)
    assert (back.cells, back.study, back.tuned) == ([], replace(Study(), seeds=[]), {})


def test_a_trial_that_diverged_comes_back_as_no_number(tmp_path):
    tuned = {"a": TunedValue(0.001, {"0.001": 2.1, "0.002": math.nan}, interior=False)}
    write_ledger(tmp_path, replace(FULL, tuned=tuned))
    json.loads((tmp_path / LEDGER_FILE).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    trials = read_ledger(tmp_path).tuned["a"].trials
    assert trials["0.001"] == 2.1
    assert trials["0.002"] is None or math.isnan(trials["0.002"])


def test_there_may_be_none(tmp_path):
    assert read_ledger(tmp_path) is None
    assert read_ledger(tmp_path / "nowhere") is None


def _without(key):
    def spoil(values):
        del values[key]

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        *(_without(key) for key in ("format", "name", "cells", "study", "declared", "tuned")),
        lambda values: values.update(format=2),
        lambda values: values.update(extra=1),
        lambda values: values["cells"][0].pop("run_id"),
        lambda values: values["study"].update(baseline="z"),
        lambda values: values["study"].update(tuning={"key": "optim.lr", "values": [1]}),
        lambda values: values.update(cells=None),
    ],
)
def test_a_damaged_ledger_is_told_by_its_path_with_what_to_do(tmp_path, spoil):
    write_ledger(tmp_path, FULL)
    values = json.loads((tmp_path / LEDGER_FILE).read_text())
    spoil(values)
    (tmp_path / LEDGER_FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"study\.json cannot be read .*; remove it"):
        read_ledger(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "12", '{"format": 1', "\x00" * 50])
def test_a_torn_or_foreign_file_is_told_by_its_path(tmp_path, text):
    (tmp_path / LEDGER_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"study\.json"):
        read_ledger(tmp_path)


def test_a_prediction_is_noted_once_and_a_changed_one_beside_it_with_what_had_ended(tmp_path):
    first = replace(FULL, declared=()).with_prediction("2026-11-22T10:00:00+00:00", 0)
    assert first.declared == [Declared(STUDY.prediction_sha256(), "2026-11-22T10:00:00+00:00", 0)]
    assert first.with_prediction("2026-11-23T10:00:00+00:00", 5) is first, "nothing new"
    changed = replace(first, study=replace(STUDY, expect={"b": "better"}))
    both = changed.with_prediction("2026-11-24T10:00:00+00:00", 5)
    assert both.declared[0] == first.declared[0]
    assert [one.finished_cells for one in both.declared] == [0, 5]
    back = replace(both, study=STUDY).with_prediction("2026-11-25T10:00:00+00:00", 9)
    assert [one.finished_cells for one in back.declared] == [0, 5, 9], "going back is a change as well"
    write_ledger(tmp_path, back)
    assert read_ledger(tmp_path).declared == back.declared


def test_more_arms_seeds_and_profiles_are_no_other_prediction():
    first = replace(FULL, declared=()).with_prediction("2026-11-22T10:00:00+00:00", 0)
    grown = replace(STUDY, arms={**STUDY.arms, "c": ["model.dim=64"]}, seeds=[1, 2, 3], profiles={})
    assert len(replace(first, study=grown).with_prediction("2026-11-23T10:00:00+00:00", 4).declared) == 1


def test_a_run_is_its_cell_by_the_digest_whatever_else_its_name_says(tmp_path):
    write_ledger(tmp_path, FULL)
    assert place_of(RunFolder(tmp_path / "renamed-by-hand-0000000f")) == Place("b", {}, "Does it matter?")
    assert place_of(RunFolder(tmp_path / "a-seed=1-00000000")).arm == "a"
    assert place_of(RunFolder(tmp_path / "a-seed=1-12345678")) == Place()
    assert place_of(RunFolder(tmp_path / "nowhere" / "a-seed=1-00000000")) == Place()


def test_a_cell_of_a_sweep_has_the_levels_of_its_factors_as_numbers_where_all_are(tmp_path):
    arms = {"kv1 gelu": ("1", "gelu"), "kv4 gelu": ("4", "gelu"), "kv1 bias1e-2": ("1", "1e-2")}
    cells = [
        Cell(arm, 1, f"r-0000000{number}", [f"model.attention.num_kv_heads={kv}", f"model.norm={norm}", "seed=1"])
        for number, (arm, (kv, norm)) in enumerate(arms.items())
    ]
    write_ledger(tmp_path, StudyLedger("runs", "", cells, Study()))
    assert place_of(RunFolder(tmp_path / "r-00000001")) == Place("kv4 gelu", {"kv": 4, "norm": "gelu"}, "")
    assert place_of(RunFolder(tmp_path / "r-00000002")).factors == {"kv": 1, "norm": "1e-2"}


def test_the_command_of_a_cell_survives_the_shell():
    cell = FULL.cells[1]
    assert shlex.split(cell.command) == ["atomiclm", "train", *cell.overrides]
