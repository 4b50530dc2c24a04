"""The declaration of a study: what it refuses, what of it is a prediction, and that it comes back as it was written."""

import json
import math
from dataclasses import asdict, fields, replace

import pytest

from atomiclm.sweep.study import Sequential, Study, Tuning

FULL = Study(
    question="Does it matter?",
    prediction="Hardly, “a little”.",
    source="Shazeer 2019, arXiv 1911.02150",
    expect={"b": "worse", "c": "equivalent"},
    baseline="a",
    arms={"a": [], "b": ["model.dim=32"], "c": ["model.dim=64", "match=parameters"]},
    seeds=[3, 1, 2],
    metric="validation/accuracy",
    direction="higher",
    margin=0.02,
    tuning=Tuning("optim.lr", [1e-3, 2e-3, 4e-3], [1001], {"b": [1.0, 3.0, 9.0]}, 1),
    sequential=Sequential(9, 3),
    profiles={"smoke": ["trainer.max_tokens=8_000"]},
    fail_fast=True,
)
OTHER = {
    "question": "?",
    "prediction": "Nothing.",
    "source": "own expectation",
    "expect": {"b": "better"},
    "baseline": "c",
    "arms": {"a": [], "b": ["model.dim=48"], "c": []},
    "seeds": [4, 5],
    "metric": "validation/loss",
    "direction": "lower",
    "margin": 0.03,
    "tuning": None,
    "sequential": None,
    "profiles": {},
    "fail_fast": False,
}
PREDICTED = {"question", "prediction", "source", "expect", "baseline", "metric", "direction", "margin"}


def test_the_fields_below_are_all_there_are():
    names = {field.name for field in fields(Study)} - {"factors"}  # in place of arms: test_factors.py
    assert set(OTHER) == names
    assert all(getattr(FULL, name) != value for name, value in OTHER.items())
    # Nothing stands at its default, so what follows notices a field that is dropped.
    assert all(getattr(FULL, name) != getattr(Study(), name) for name in names)


def test_every_field_survives_json():
    for study in (FULL, replace(Study(), seeds=[])):
        assert Study.from_json(json.loads(json.dumps(asdict(study)))) == study


@pytest.mark.parametrize("name", sorted(OTHER))
def test_the_prediction_changes_with_what_fixes_it_and_with_nothing_else(name):
    """Arms, seeds and budgets may grow under the same prediction."""
    changes = {name: OTHER[name]}
    if name == "baseline":
        changes["expect"] = {"b": "worse"}
        same = replace(FULL, expect={"b": "worse"})
    else:
        same = FULL
    changed = replace(FULL, **changes)
    assert (changed.prediction_sha256() != same.prediction_sha256()) == (name in PREDICTED)


def test_the_prediction_is_the_same_however_its_expectations_are_ordered():
    assert replace(FULL, expect={"c": "equivalent", "b": "worse"}).prediction_sha256() == FULL.prediction_sha256()


BAD = {
    "a baseline that is no arm": ({"baseline": "z"}, "baseline='z' is none of the arms: a, b, c"),
    "a baseline without arms": (
        {"arms": {}, "expect": {}, "tuning": None},
        "there are no arms; declare study.arms",
    ),
    "an expectation of no arm": ({"expect": {"z": "worse"}}, "'z' is none of the arms that are compared: b, c"),
    "an expectation of the baseline": ({"expect": {"a": "worse"}}, "'a' is none of the arms"),
    "an expectation without words": ({"prediction": ""}, "give both `prediction`"),
    "an expectation without a source": ({"source": ""}, "`source`, who found it"),
    "an arm with a space": ({"arms": {"a": [], "b": [], "c": [], "d e": []}}, "'d e' is no name"),
    "an arm that is a number": ({"arms": {"a": [], "b": [], "c": [], 8: []}}, "8 is no name; begin with a letter"),
    "an arm that reads as a number": ({"arms": {"a": [], "b": [], "c": [], "1e4": []}}, "'1e4' is no name"),
    "an arm that reads as nothing": ({"arms": {"a": [], "b": [], "c": [], "Null": []}}, "'Null' is no name"),
    "seeds twice": ({"seeds": [1, 1]}, r"seeds=\[1, 1\] are not all different"),
    "no seeds": ({"seeds": [], "sequential": None}, "needs at least one"),
    "the seeds of the tuning": ({"seeds": [1, 1001]}, r"tuning.seeds: \[1001\] are also in seeds"),
    "a grid of no arm": ({"tuning": Tuning("x", [1, 2, 4], [9], {"z": [1, 2, 4]})}, "tuning.grids: 'z' is none"),
    "no margin": ({"margin": 0}, "margin=0 is not positive"),
    "a margin that is no number": ({"margin": math.nan}, "margin=nan is not positive"),
    "more seeds than at most": ({"sequential": Sequential(2)}, "sequential.max_seeds=2 is below the 3 seeds"),
    "one seed to look at": ({"seeds": [1], "sequential": Sequential(5)}, "begin with at least 2 seeds"),
    "a profile called cpu": ({"profiles": {"cpu": []}}, "cpu is the name of what the file itself says"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_contradicts_itself_is_refused(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        replace(FULL, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": [1, 2]}, "at least three values"),
        ({"values": [4, 2, 1]}, "must grow by about one factor"),
        ({"values": [1, 2, 3]}, "must grow by about one factor"),
        ({"values": [1, 1, 1]}, "must grow by about one factor"),
        ({"values": [0, 1, 2]}, "must be positive"),
        ({"grids": {"b": [1, 2, 4, 8]}}, "grids.b has 4 values, `values` 3: equal trials"),
        ({"grids": {"b": [1, 2, 6]}}, "grids.b=.* must grow by about one factor"),
        ({"seeds": []}, "at least one, all different"),
        ({"seeds": [5, 5]}, "at least one, all different"),
        ({"max_extensions": -1}, "give 0 for a fixed grid"),
    ],
)
def test_a_tuning_that_is_not_fair_to_all_arms_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Tuning(**{"key": "optim.lr", "values": [1, 2, 4], **changes})


def test_an_experiment_that_asks_nothing_has_no_arms():
    assert not Study().is_declared
    assert FULL.is_declared
