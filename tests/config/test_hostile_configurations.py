"""Configurations from a stranger: told what is wrong with them or used; nothing of theirs runs, nothing hangs."""

import os
import random
import shutil
import sys

import pytest
import torch
import yaml
from cli import TINY, corpus, only_run, run
from hostile_configurations import changed, code_nodes, junk, places, values
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atomiclm.config.compose import resolved, root_keys
from atomiclm.config.errors import ConfigError
from atomiclm.config.load import load_run
from atomiclm.config.plugins import read_experiment
from atomiclm.config.validate import validate
from atomiclm.tracking import RunFolder
from atomiclm.tracking.run_folder import read_config_file

SEED = int(os.environ.get("ATOMICLM_FUZZ_SEED", "6"))
NUM_SPOILED = 2200


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that is there once anything planted has run."""
    path = tmp_path / "canary"
    (tmp_path / "canary_part.py").write_text(f"__import__('pathlib').Path({str(path)!r}).touch()\nclass Canary: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield path
    sys.modules.pop("canary_part", None)


def _is_valid(config):
    """Whether it is; anything but a ConfigError, or OmegaConf's of a reference, is a fault of ours."""
    told = []
    try:
        validate(config, root_keys())
    except ConfigError as error:
        told = [*error.faults]
    assert all(fault.path and fault.message for fault in told)
    return not told


@pytest.mark.slow
def test_a_spoiled_configuration_is_told_or_used(canary, capsys):
    """Of every fifth, the references are followed first, as in a composed one; the others are as in a config.yaml."""
    with capsys.disabled():
        print(f" [fuzz seed {SEED}]", end="")
    random_ = random.Random(SEED)
    written = values()
    read = [resolved(OmegaConf.create(config)) for config in written]
    outcomes = {True: 0, False: 0}
    for number in range(NUM_SPOILED):
        follows = number % 5 == 0
        config = random_.choice(written if follows else read)
        for _ in range(random_.choice((1, 1, 2))):
            config = changed(config, random_.choice(list(places(config))), junk(random_))
        try:
            outcomes[_is_valid(resolved(OmegaConf.create(config)) if follows else config)] += 1
        except (OmegaConfBaseException, ConfigError):
            outcomes[False] += 1
        except RecursionError as error:  # OmegaConf's own, where something is wrong 60 levels down
            if "omegaconf" not in error.__traceback__.tb_next.tb_frame.f_code.co_filename:
                raise
            outcomes[False] += 1
        except BaseException as error:
            error.add_note(f"seed {SEED}, number {number}")
            raise
    assert not canary.exists()
    assert outcomes[False] > NUM_SPOILED / 2
    assert outcomes[True] > 20


@pytest.mark.slow
def test_code_planted_at_any_place_is_refused(canary):
    """Every node of a configuration in turn is one that would make a file, or holds one beside its own entries."""
    random_ = random.Random(SEED)
    (config, *_) = values()
    config = resolved(OmegaConf.create(config))
    nodes = code_nodes(str(canary))
    for place in places(config):
        for node in random_.sample(nodes, 2):
            assert not _is_valid(changed(config, place, node)) or place[0] == "study", (place, node)
    assert not canary.exists()


# The files of a run.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of one step."""
    folder = tmp_path_factory.mktemp("trained")
    text = corpus(folder)
    done = run(
        folder,
        "train",
        *TINY,
        "trainer.max_steps=1",
        "data=text",
        f"data.path={text}",
        "evaluation.samples=0",
        "evaluation.times=0",
    )
    assert done.returncode == 0, done.stderr
    return only_run(folder)


@pytest.fixture
def stored(trained, tmp_path):
    """A copy of it to spoil, and what its config.yaml says."""
    folder = shutil.copytree(trained, tmp_path / "run")
    return RunFolder(folder), yaml.safe_load((folder / "config.yaml").read_text())


@pytest.mark.slow
def test_a_run_is_loaded(stored):
    assert load_run(stored[0], None).config["model"]["dim"] == 32


SPOILED = {
    "model.num_layers": ("num_layers", 10**9),
    "model.dim": ("dim", 10**9),
    "the model has [": ("dim", 10**7),
    "model.vocab_size": ("vocab_size", 10**12),
    "model.context_length": ("context_length", 10**18),
    "model.attention.num_heads": ("attention.num_heads", 10**9),
    "model.feedforward.hidden_dim": ("feedforward.hidden_dim", 10**15),
    "blocks.10": ("num_layers", 100),
    "model.dropout": ("dropout", "much"),
    "model.norm._target_": ("norm._target_", "os.system"),
    "model._target_": ("_target_", "builtins.eval"),
    "model: is no mapping": ("", ["a", "list"]),
    "model: names no component": ("", {"dim": 4}),
}


@pytest.mark.slow
@pytest.mark.parametrize("message", SPOILED)
def test_a_model_that_is_not_the_weights_is_refused_before_it_is_made(message, stored, monkeypatch):
    folder, config = stored
    load_run(folder, None)  # torch remembers which functions its meta device is for, so before one is replaced
    path, value = SPOILED[message]
    spoiled = changed(config, tuple(f"model.{path}".rstrip(".").split(".")), value)
    folder.config.write_text(yaml.safe_dump(spoiled))

    allocated = []
    allocate = torch.empty

    def counted(*sizes, **keywords):
        made = allocate(*sizes, **keywords)
        allocated.append(made.numel() if made.device.type == "cpu" else 0)
        return made

    monkeypatch.setattr(torch, "empty", counted)
    with pytest.raises(ValueError, match="cannot be used") as told:
        load_run(folder, None)
    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert max(allocated, default=0) < 10**6


def _aliases(form):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    return "\n".join([*rows, *(f"a{i}: &a{i} {form.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, 12))])


FILES = {
    "a bomb of aliases": (_aliases("[{}]"), "100,000 values"),
    "a bomb of merges": (_aliases("{{<<: [{}]}}").replace("[x, x, x, x, x, x, x, x, x]", "{k: 1}"), "100,000 values"),
    "a part inside itself": ("a: &a [*a]", "100,000 values"),
    "too deep": ("a: " + "[" * 500 + "]" * 500, "50 levels deep"),
    "deeper than the parser goes": ("a: " + "[" * 5000 + "]" * 5000, "nest"),  # PyYAML tells it itself since 6.0.4
    "too long": ("a: " + "x" * 2_000_000, "bytes"),
    "a Python object": ("a: !!python/object/apply:os.system ['touch canary']", "python/object"),
    "a list": ("[1, 2]", "no mapping"),
    "nothing": ("", "no mapping"),
    "no YAML": ("a: [", "config.yaml"),
    "no UTF-8": (b"a: \xff\xfe", "utf-8"),
    "a date that is none": ("a: 2001-99-99", "month"),
    "a NUL": ("a: b\0c", "config.yaml"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_config_file_is_read_or_refused(case, tmp_path, canary):
    content, message = FILES[case]
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"config\.yaml") as told:
        read_config_file(path)
    assert message in str(told.value)
    assert not canary.exists()


@pytest.mark.parametrize("case", [case for case in FILES if case not in ("a list", "nothing", "a date that is none")])
def test_an_experiment_is_refused_for_the_same_faults(case, tmp_path, canary):
    content, _ = FILES[case]
    path = tmp_path / "config.yaml"
    path.write_bytes(b"# @package _global_\n" + (content if isinstance(content, bytes) else content.encode()))
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_experiment(path)
    assert not canary.exists()


def test_references_in_a_config_file_are_not_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "hunter2")
    (tmp_path / "config.yaml").write_text("a: ${oc.env:SOME_TOKEN}\nb: &b [1]\nc: *b\n")
    assert read_config_file(tmp_path / "config.yaml") == {"a": "${oc.env:SOME_TOKEN}", "b": [1], "c": [1]}


# Through the command.


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model.num_layers=1000000000", "model.dim=10000000000", "trainer.batch_size=-1", "optim.lr=nan", "name=../x"],
         ["5 faults", "model.num_layers", "model.dim", "trainer.batch_size", "optim.lr", "name"]),
        (["data=markov", "data.order=1000000000", "output_dir=${cache_dir}", "cache_dir=${output_dir}"],
         ["output_dir: Recursive interpolation detected"]),
        (["tracking.project=${oc.env:WANDB_API_KEY}"], ["tracking.project: WANDB_API_KEY"]),
        (["arm=../../x"], ["arm: "]),
        (["-m", "arm=../../x"], ["arm: "]),
    ],
)  # fmt: skip
def test_through_the_command_it_is_one_message(arguments, expected, tmp_path):
    done = run(tmp_path, "plan", *arguments)
    assert done.returncode == 2, done.stderr
    for part in expected:
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 3000
    assert not (tmp_path / "outputs").exists()
