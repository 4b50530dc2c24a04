"""A sweep too large to run, and values that cannot be listed, are told before anything is listed or composed."""

import re

import pytest
from hydra.core.override_parser.types import Override

from atomiclm.config.compose import parsed
from atomiclm.config.errors import ConfigError
from atomiclm.config.expand_overrides import _length, product


def faults_of(*typed):
    with pytest.raises(ConfigError) as caught:
        product(typed)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(("typed", "words"), [
    (["seed=range(1,1000000000)"], "-m: the sweep has 999,999,999 cells (999,999,999 of seed)"),
    (["optim.lr=shuffle(range(1,3,1e-9))"], "2,000,000,000 of optim.lr"),
    (["seed=range(1,102)", "optim.lr=range(1,101)"], "has 10,100 cells (101 of seed, 100 of optim.lr)"),
    (["seed=int(range(1,1000000000))", "model=small"], "999,999,999 of seed"),
    (["optim.lr=range(1,inf)"], "optim.lr: a range has three finite numbers"),
    (["optim.lr=range(nan,1)"], "optim.lr: a range has three finite numbers"),
    (["seed=range(1,5,0)"], "seed: a range has three finite numbers, range(start,stop,step), and a step other than 0"),
    (["seed=range(5,1)"], "seed: no value from 5 to 1"),
    (["seed=range(1,5,-1)"], "seed: no value from 1 to 5"),
    (["seed=interval(0,1)"], "seed: an interval has no end of values"),
    (["seed=range(1,3),range(4,6)"], "seed: a list of values holds single ones"),
    (["+seed=1,interval(0,1)"], "seed: a list of values holds single ones"),
])  # fmt: skip
def test_what_is_no_sweep_is_told(typed, words):
    [told] = faults_of(*typed)
    assert words in told


@pytest.mark.parametrize(("typed", "number"), [
    (["seed=range(1,101)", "optim.lr=range(1,101)"], 10_000), (["seed=1,2,3"], 3), (["seed=range(5,1,-1)"], 4),
    (["optim.lr=range(0.1,0.3,0.1)"], 2), (["seed=3"], 1), (["seed=shuffle(1,2,3)"], 3),
    (["data.text='range(1,1000000000)'"], 1), (["~debug", "seed=1,2"], 2), (["model=glob(*)"], None),
])  # fmt: skip
def test_what_is_one_is_listed(typed, number):
    swept, cells = product(typed)
    assert len(cells) == number or (number is None and len(cells) > 5)
    assert bool(swept) == (len(cells) > 1)


def test_the_number_is_that_of_the_cells_hydra_makes():
    for values in ("range(1,7,2)", "range(0.1,0.35,0.1)", "range(7,1,-2)", "1,2,3", "range(0,1,0.3)"):
        [override] = parsed([f"seed={values}"])
        assert _length(override.value()) == len(list(override.sweep_iterator()))


def test_it_is_refused_before_anything_is_listed(monkeypatch):
    def listed(*_):
        raise AssertionError("listing them takes minutes, and all memory")

    monkeypatch.setattr(Override, "sweep_string_iterator", listed)
    with pytest.raises(ConfigError, match=re.escape("999,999,999 cells")):
        product(["seed=range(1,1000000000)"])
