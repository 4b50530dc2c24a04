"""What a `_target_` may name, and what else of a configuration could run, write or give away something."""

import sys

import pytest
import yaml
from cli import run
from hostile_configurations import CODE
from hydra.types import RunMode
from omegaconf import OmegaConf

from atomiclm.config.app import compose_hydra
from atomiclm.config.build import TargetError, build, component
from atomiclm.config.compose import compose, initialized, interpolation_faults, resolved, root_keys
from atomiclm.config.errors import ConfigError
from atomiclm.config.plugins import CONF
from atomiclm.config.validate import validate

CANARY = "__import__('pathlib').Path({path!r}).touch()\nclass Canary:\n    pass\ndef make():\n    return Canary()\n"


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that is there once the importable module `canary_part` has been imported."""
    (tmp_path / "canary_part.py").write_text(CANARY.format(path=str(tmp_path / "canary")))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "canary"
    sys.modules.pop("canary_part", None)


def _targets(node):
    if isinstance(node, dict):
        yield from ([node["_target_"]] if "_target_" in node else [])
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from _targets(child)


def test_every_shipped_option_names_a_component():
    files = [file for file in CONF.rglob("*.yaml") if "hydra" not in file.relative_to(CONF).parts]
    named = {target for file in files for target in _targets(yaml.safe_load(file.read_text()))}
    assert len(named) > 80
    for target in named:
        component(target)


@pytest.mark.parametrize(
    "target",
    ["torch.nn.Linear", "torch.nn.LSTM", "torch.nn.modules.linear.Linear", "torch.optim.SGD", "torch.optim.AdamW",
     "atomiclm.model.decoder.Decoder", "atomiclm.tracking.WeightsAndBiases"],
)  # fmt: skip
def test_a_class_may_be_named_where_it_is_exported_and_where_it_is_defined(target):
    assert component(target).__name__ == target.rpartition(".")[2]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("target", CODE)
def test_nothing_else_may_be_named_or_imported(target, canary):
    config = resolved(compose(["model=tiny"]))
    config["model"]["norm"] = {"_target_": target, "_partial_": True}
    with pytest.raises(ConfigError) as told:
        validate(config, root_keys())
    assert "model.norm._target_" in str(told.value)
    for node in ({"_target_": target}, [{"a": {"_target_": target, "_partial_": True}}]):
        with pytest.raises(TargetError):
            build(node)
    assert not canary.exists()
    assert "canary_part" not in sys.modules


def test_the_environment_alone_can_add_to_what_is_trusted(canary, monkeypatch):
    with pytest.raises(TargetError, match="ATOMICLM_TRUST=canary_part"):
        component("canary_part.Canary")
    for trusted in ("canary", "canary_par", "canary_part.Canary.deeper", "other,"):
        monkeypatch.setenv("ATOMICLM_TRUST", trusted)
        with pytest.raises(TargetError):
            build({"_target_": "canary_part.Canary"})
    assert not canary.exists()
    monkeypatch.setenv("ATOMICLM_TRUST", "elsewhere, canary_part")
    assert type(build([{"_target_": "canary_part.make"}])[0]).__name__ == "Canary"
    assert canary.exists()
    with pytest.raises(TargetError):
        build({"_target_": "os.system", "command": "true"})


def test_text_is_not_resolved_when_objects_are_made(monkeypatch):
    monkeypatch.setenv("SOMETHING", "else")
    assert build({"a": ["${oc.env:SOMETHING}"]}) == {"a": ["${oc.env:SOMETHING}"]}


def test_what_hydra_would_read_beside_the_target_is_refused():
    config = resolved(compose(["model=tiny"]))
    config["model"]["norm"] |= {"_args_": [1], "_convert_": "all", "_recursive_": False}
    with pytest.raises(ConfigError) as told:
        validate(config, root_keys())
    assert [fault.path for fault in told.value.faults] == [
        f"model.norm.{key}" for key in ("_args_", "_convert_", "_recursive_")
    ]


# What Hydra acts on.

HYDRA = {
    "hydra.callbacks": {"callbacks": {"x": {"_target_": "canary_part.Canary"}}},
    "hydra.launcher._target_": {"launcher": {"_target_": "canary_part.Canary"}},
    "hydra.launcher": {"launcher": "${data.evil}"},
    "hydra.sweeper": {"sweeper": {"_target_": "canary_part.Canary"}},
    "hydra.job_logging": {"job_logging": {"handlers": {"x": {"()": "canary_part.Canary"}}}},
    "hydra.run": {"run": {"dir": "elsewhere"}},
    "hydra.mode": {"mode": "MULTIRUN"},
    "hydra.job": {"job": {"env_set": {"ATOMICLM_TRUST": "canary_part"}}},
    "hydra.launcher.setup": {"launcher": {"setup": ["touch x"]}},
    "hydra.launcher.name": {"launcher": {"name": "two\nlines"}},
    "hydra": "${data.evil}",
}


def _experiment(folder, monkeypatch, content):
    monkeypatch.chdir(folder)
    (folder / "experiments").mkdir()
    (folder / "experiments" / "mine.yaml").write_text("# @package _global_\n" + yaml.safe_dump(content))


@pytest.mark.one_in(5)
@pytest.mark.parametrize("path", HYDRA)
def test_an_experiment_may_not_set_what_hydra_acts_on(path, tmp_path, monkeypatch, canary):
    content = {"defaults": [{"override /hydra/launcher": "submitit_local"}], "hydra": HYDRA[path]}
    _experiment(tmp_path, monkeypatch, content)
    with pytest.raises(ConfigError) as caught:
        compose(["experiments=mine"])  # as a command does, and each cell of a sweep over experiments
    assert path in [fault.path for fault in caught.value.faults]
    assert not canary.exists()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm"])
def test_an_experiment_may_choose_an_installed_launcher_and_its_plain_settings(launcher, tmp_path, monkeypatch):
    plain = {"timeout_min": 5, "name": "mine"}
    content = {"defaults": [{"override /hydra/launcher": launcher}], "hydra": {"launcher": plain}}
    _experiment(tmp_path, monkeypatch, content)
    with initialized():
        config = compose_hydra(["experiments=mine", "hydra/job_logging=default"], RunMode.MULTIRUN)
    assert plain.items() <= config.hydra.launcher.items()


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("+hydra.callbacks.x={_target_: canary_part.Canary}", "hydra.callbacks"),
        ("hydra.launcher._target_=canary_part.Canary", "hydra.launcher._target_"),
        ("+hydra.sweeper.sampler={_target_: canary_part.Canary}", "hydra.sweeper.sampler._target_"),
        ("hydra/sweeper=optuna", "hydra.sweeper.sampler.seed"),
    ],
)
def test_hydra_makes_what_is_installed_and_can_be_repeated_and_nothing_else(typed, path, canary):
    with initialized():
        compose_hydra(["hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=/tmp"], RunMode.MULTIRUN)
        with pytest.raises(ConfigError) as caught:
            compose_hydra([typed], RunMode.MULTIRUN)
    assert [fault.path for fault in caught.value.faults] == [path]
    assert not canary.exists()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("flags", [["-m"], ["--cfg", "job"]])
def test_through_the_command_nothing_runs(flags, tmp_path, canary, monkeypatch):
    content = {"hydra": HYDRA["hydra.callbacks"], "model": {"norm": {"_target_": "canary_part.Canary"}}}
    _experiment(tmp_path, monkeypatch, content)
    done = run(tmp_path, "plan", *flags, "experiments=mine")
    assert done.returncode == 2, done.stderr
    assert "hydra.callbacks" in done.stderr
    assert "Traceback" not in done.stderr
    assert not canary.exists()


# What a configuration would give away, or grow into.


@pytest.mark.parametrize(
    "name",
    ["WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN_2", "DB_PASSWORD", "apikey", "SSH_AUTH_SOCK",
     "PLAIN_URL"],
)  # fmt: skip
@pytest.mark.parametrize(
    "form", ["${{oc.env:{}}}", "a ${{oc.env:{}}} b", "${{oc.env: {} , none}}", "${{oc.decode:${{oc.env:{}}}}}"]
)
def test_a_secret_of_the_environment_is_not_read(name, form, monkeypatch):
    monkeypatch.setenv("PLAIN_URL", "https://me:hunter2@example.org")
    text = form.format(name)
    (fault,) = interpolation_faults({"tracking": {"project": text}})
    assert fault.path == "tracking.project"
    assert name in fault.message
    assert "hunter2" not in fault.message


@pytest.mark.parametrize(
    "text",
    ["${oc.env:${name}}", "${oc.decode:'${name}'}", "${oc.create:{a: 1}}", "${oc.env:'HF_TOKEN'}", "${${name}}",
     "${oc.decode:\"\\${oc.env:HF_TOKEN}\"}", "${oc.select:${name}}"],
)  # fmt: skip
def test_a_reference_that_hides_what_it_reads_is_not_followed(text):
    assert interpolation_faults({"name": "HF_TOKEN", "arm": text})


def test_other_references_are_followed(monkeypatch):
    monkeypatch.setenv("LAYERS", "3")
    config = OmegaConf.create({
        "a": {"layers": "${oc.decode:${oc.env:LAYERS}}", "home": "${oc.env:TOKENIZERS_PARALLELISM,none}"},
        "b": ["${a.layers}", "${..a}", "${.0}", "${oc.select:no.such,5}"],
    })  # fmt: skip
    found = resolved(config)
    assert found["a"] == {"layers": 3, "home": "none"}
    assert found["b"] == [3, found["a"], 3, 5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": "${b}", "b": "${c.d}", "c": {"d": "${a}"}}, "Recursive interpolation"),
        ({"a": {"b": "${a}"}}, "Interpolation to parent node"),
        ({"a": "b\0c"}, "NUL"),
    ],
)
def test_what_cannot_be_followed_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        resolved(OmegaConf.create(values))
