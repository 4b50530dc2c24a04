"""The launchers of a cluster: what their settings ask of Slurm, and what is said where an engine is missing."""

import sys

import pytest
import yaml
from hydra.types import RunMode

from atomiclm.cli import UserError
from atomiclm.config.app import compose_hydra
from atomiclm.config.compose import initialized
from atomiclm.config.launchers import RayLauncher, SubmititLauncher
from atomiclm.config.plugins import CONF


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with a `srun`, which is how submitit tells that there is Slurm."""
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def submitted(folder, **changes):
    """The script that Slurm would be given."""
    settings = yaml.safe_load((CONF / "hydra/launcher/submitit_slurm.yaml").read_text())
    settings = {name: value for name, value in settings.items() if not name.startswith("_")}
    settings |= {"submitit_folder": str(folder / "%j"), "name": "study", **changes}
    executor = SubmititLauncher(**settings).make_executor()
    executor._executor.parameters["map_count"] = 400
    return executor._executor._make_submission_file_text("command", "1")


SLURM = {
    "name": ("mine", "--job-name=mine"),
    "timeout_min": (7, "--time=7"),
    "signal_delay_s": (33, "--signal=USR2@33"),
    "nodes": (2, "--nodes=2"),
    "tasks_per_node": (3, "--ntasks-per-node=3"),
    "cpus_per_task": (4, "--cpus-per-task=4"),
    "gpus_per_node": (1, "--gpus-per-node=1"),
    "gres": ("shard:1", "--gres=shard:1"),
    "mem_gb": (5, "--mem=5GB"),
    "partition": ("gpu", "--partition=gpu"),
    "qos": ("low", "--qos=low"),
    "account": ("us", "--account=us"),
    "constraint": ("a100", "--constraint=a100"),
    "exclude": ("bad1", "--exclude=bad1"),
    "array_parallelism": (9, "--array=0-399%9"),
    "setup": (["module load x"], "module load x"),
    "additional_parameters": ({"nice": 100}, "--nice=100"),
}


@pytest.mark.parametrize("setting", SLURM)
def test_every_setting_of_slurm_reaches_its_script(slurm, setting):
    value, line = SLURM[setting]
    assert line in submitted(slurm, **{setting: value})
    assert line not in submitted(slurm)


def test_no_setting_is_left_out():
    settings = yaml.safe_load((CONF / "hydra/launcher/submitit_slurm.yaml").read_text())
    others = {"_target_", "_convert_", "executor", "submitit_folder", "max_num_timeout"}
    assert settings.keys() - others == SLURM.keys()


def test_a_requeue_after_a_time_limit_is_counted(slurm):
    for count in (1, 2):
        launcher = SubmititLauncher("slurm", str(slurm / "%j"), max_num_timeout=count)
        assert launcher.make_executor()._executor.max_num_timeout == count


def test_what_submitit_does_not_know_or_have_is_told(slurm, monkeypatch):
    with pytest.raises(UserError, match=r"hydra.launcher: .*pertition"):
        submitted(slurm, pertition="gpu")
    (slurm / "srun").unlink()
    monkeypatch.setenv("PATH", str(slurm))
    with pytest.raises(UserError, match=r'hydra.launcher: Could not detect "srun"'):
        submitted(slurm)


@pytest.mark.parametrize("launcher", [RayLauncher(None), SubmititLauncher("local", "jobs", 1)])
def test_an_engine_that_is_not_installed_is_named_with_its_extra(launcher, monkeypatch):
    name = "ray" if isinstance(launcher, RayLauncher) else "submitit"
    monkeypatch.setitem(sys.modules, name, None)
    with initialized():
        config = compose_hydra([f"hydra/launcher={'ray' if name == 'ray' else 'submitit_local'}"], RunMode.MULTIRUN)
        launcher.setup(hydra_context=None, task_function=None, config=config)
        with pytest.raises(UserError, match=rf"hydra/launcher: {name} is not installed .* 'atomiclm\[{name}\]'"):
            launcher.launch([["seed=1"]], 0)
