"""`held_out=dev` wraps what a run reads, and so is part of what the run is; `held_out=validation` changes nothing."""

import pytest

from atomiclm.config.build import build
from atomiclm.config.compose import compose, resolved, root_keys
from atomiclm.config.errors import ConfigError
from atomiclm.config.run import IDENTITY, apply_held_out, digest, read_cell
from atomiclm.data import DevSplit

SMALL = ["model=tiny", "tokenizer=bytes"]


def _applied(*overrides):
    config = compose([*overrides, "held_out=dev"])
    apply_held_out(config)
    return config


@pytest.mark.one_in(5)
@pytest.mark.parametrize("data", ["python", "markov", "copy", "recall", "passkey"])
def test_a_run_on_the_dev_split_is_another_run(data):
    plain, dev = read_cell([*SMALL, f"data={data}"]), read_cell([*SMALL, f"data={data}", "held_out=dev"])
    assert dev.values["data"]["_target_"] == "atomiclm.data.DevSplit"
    assert dev.values["data"]["source"] == plain.values["data"]
    assert digest(dev.values) != digest(plain.values)
    assert {key for key in IDENTITY if dev.values[key] != plain.values[key]} == {"data"}
    assert isinstance(build(dev.values["data"]), DevSplit)


def test_the_validation_text_is_what_is_held_out_by_default():
    assert read_cell(SMALL).run_id == read_cell([*SMALL, "held_out=validation"]).run_id


def test_nothing_that_is_not_identity_changes_the_digest_but_the_dev_split():
    plain = read_cell(SMALL)
    others = ["name=other", "output_dir=elsewhere", "cache_dir=c", "tracking=off", "evaluation.times=1",
              "runtime.log_every_steps=3", "study.margin=0.5", "match.tolerance=0.1", "profile=cpu"]  # fmt: skip
    assert {one.partition("=")[0].partition(".")[0] for one in others} | {"arm", "held_out"} == (
        set(root_keys()) - set(IDENTITY)
    )
    assert digest(read_cell([*SMALL, *others]).values) == digest(plain.values)


def test_each_source_of_a_mixture_is_wrapped_by_itself_those_of_mixtures_in_it_too():
    config = _applied("data=markov")
    one = resolved(config)["data"]["source"]
    inner = {"_target_": "atomiclm.data.Mixture", "sources": {"deep": one}, "weights": {"deep": 1.0}}
    config = compose(["held_out=dev"])
    config.data = {"_target_": "atomiclm.data.Mixture", "sources": {"flat": one, "in": inner}, "weights": {}}
    apply_held_out(config)
    data = resolved(config)["data"]
    assert data["_target_"] == "atomiclm.data.Mixture"
    assert data["sources"]["flat"] == {"_target_": "atomiclm.data.DevSplit", "source": one}
    assert data["sources"]["in"]["sources"]["deep"] == {"_target_": "atomiclm.data.DevSplit", "source": one}


def test_wrapping_twice_is_wrapping_once():
    config = _applied("data=markov")
    once = resolved(config)
    apply_held_out(config)
    assert resolved(config) == once


def test_a_fault_of_the_wrapped_source_is_told_by_its_path():
    with pytest.raises(ConfigError, match=r"data\..*path.*nowhere\.txt"):
        read_cell([*SMALL, "data=text", "data.path=nowhere.txt", "held_out=dev"])


def test_any_other_word_is_refused():
    with pytest.raises(ConfigError, match="held_out: 'test' is not one of: 'validation' or 'dev'"):
        read_cell([*SMALL, "held_out=test"])
