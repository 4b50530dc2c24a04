"""`wandb sweep` and `wandb agent` drive our command: the shipped example, made small, on the fake server."""

import os
import subprocess
import sys
from pathlib import Path

import cli
import pytest
import yaml
from wandb_driver import sandbox

from atomiclm.tracking import read_summary

SWEEPS = Path(__file__).parents[2] / "experiments" / "sweeps"


def wandb(tmp_path, server, *arguments):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # an agent starts the first python
    own = {"ATOMICLM_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "PATH": path}
    environment = sandbox(tmp_path, **server.variables, **own)
    command = [sys.executable, "-m", "wandb", *map(str, arguments)]
    answer = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stderr + answer.stdout


@pytest.mark.slow
def test_an_agent_trains_two_points_and_each_is_its_run_in_the_sweep(tmp_path, server):
    sweep = yaml.safe_load((SWEEPS / "learning_rate.yaml").read_text())
    rates = sweep["parameters"]["optim.lr"]["values"][:2]
    small = [override.split("=") for override in cli.TINY if override != "tracking=off"]
    small += [["data", "text"], ["data.path", str(cli.corpus(tmp_path))], ["trainer.max_steps", "2"]]
    sweep["parameters"] |= {key: {"value": value} for key, value in small} | {"optim.lr": {"values": rates}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))

    said = wandb(tmp_path, server, "sweep", "--project", "p", "sweep.yaml")
    assert "somebody/p/sweep0" in said
    said = wandb(tmp_path, server, "agent", "somebody/p/sweep0")
    runs = list(server.runs.values())
    assert len(runs) == 2, said
    assert {run.id for run in runs} == {"point0", "point1"}, "the agent waits for runs of its own ids"
    assert [run.exit_code for run in runs] == [0, 0], said
    assert {run.project for run in runs} == {"p"}
    assert {run.sweep for run in runs} == {"sweep0"}
    assert [run.settings["optim"]["lr"] for run in runs] == rates
    assert all(sweep["metric"]["name"] in run.summary for run in runs)
    # They are the runs that the command alone makes: named by what they are, with their own folders.
    folders = [path for path in (tmp_path / "outputs" / "wandb_learning_rate").iterdir() if path.is_dir()]
    assert {path.name for path in folders} == {run.name for run in runs}
    assert {read_summary(path / "summary.json")["state"] for path in folders} == {"done"}


def test_the_shipped_sweeps_are_no_experiments_of_the_config_group():
    assert list(SWEEPS.glob("*.yaml"))
    assert not {path.stem for path in SWEEPS.glob("*.yaml")} & {path.stem for path in SWEEPS.parent.glob("*.yaml")}
    for file in SWEEPS.glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["command"][2:] == ["-m", "atomiclm.train", "${args_no_hyphens}"]
