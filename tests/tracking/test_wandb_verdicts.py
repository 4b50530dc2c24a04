"""`compare --wandb`: each run's verdict in its summary in W&B, and never at the cost of the comparison."""

import json
import subprocess
import sys

import cli
import pytest
from wandb_driver import history, make_sweep, read_segment, sandbox, segments, steps

from atomiclm.compare import main
from atomiclm.sweep.ledger import read_ledger
from atomiclm.tracking import RunFolder


@pytest.fixture
def sweep(tmp_path):
    return make_sweep(tmp_path / "sweep")


def run(tmp_path, command, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", f"atomiclm.{command}", *map(str, arguments)],
        cwd=tmp_path, env=sandbox(tmp_path, **variables), capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def verdict(summary):
    return {key.removeprefix("compare/"): value for key, value in summary.items() if key.startswith("compare/")}


@pytest.mark.slow
def test_every_run_of_a_sweep_has_label_factors_question_and_verdict(tmp_path, sweep, server):
    answer = run(tmp_path, "compare", sweep, "--wandb", "--quiet", "--format", "csv", **server.variables)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == (
        f"W&B: verdicts of 8 runs; the last is {server.url}/somebody/atomiclm/runs/{list(server.runs)[-1]}\n"
    )
    runs = {run.name: run for run in server.runs.values()}
    assert len(runs) == 8
    base, worse = runs["kv4 theta1e3 s2"], runs["kv1 theta1e5 s1"]
    assert (worse.group, worse.notes) == ("sweep/kv1 theta1e5", "Which of these matter?")
    assert (worse.settings["factor/kv"], worse.settings["factor/theta"]) == (1, 1e5)
    assert [len(run.rows) for run in runs.values()] == [2] * 8
    assert (base.summary["compare/verdict"], base.summary.get("compare/difference")) == ("baseline", None)
    found = verdict(worse.summary)
    assert found["difference"] == pytest.approx(0.5005)
    assert found["low"] < 0.5005 < found["high"]
    assert (found["metric"], found["baseline"]) == ("validation/bits_per_byte", "kv4 theta1e3")
    assert (found["verdict"], found["best_arm"]) == ("worse", "kv4 theta1e3")
    assert found["within_noise_of_best"] is False
    assert runs["kv4 theta1e5 s1"].summary["compare/within_noise_of_best"] is True

    # Another baseline: the old verdict is gone, and no row came twice. Notes that people wrote stay.
    worse.notes = "mine"
    answer = run(tmp_path, "compare", sweep, "--wandb", "--baseline", "kv1 theta1e5", **server.variables)
    assert "W&B: verdicts of 8 runs" in answer.stderr
    assert (worse.summary["compare/verdict"], worse.summary.get("compare/difference")) == ("baseline", None)
    assert (len(worse.rows), worse.notes) == (2, "mine")

    # What `sync` sends later has it too.
    server.runs.clear()
    answer = run(tmp_path, "sync", sweep, **server.variables)
    assert answer.returncode == 0, answer.stderr
    assert {run.summary["compare/baseline"] for run in server.runs.values()} == {"kv1 theta1e5"}


@pytest.mark.slow
def test_cells_that_the_real_command_trains_bear_label_and_factors_from_the_start(tmp_path, server):
    overrides = [each for each in cli.TINY if each != "tracking=off"]
    swept = ["model.norm.eps=1e-6,1e-4", "model/feedforward=gelu,swiglu", "seed=1"]
    text = ["data=text", f"data.path={cli.corpus(tmp_path)}", "trainer.max_steps=2"]
    environment = {**cli.environment(tmp_path), **server.variables, "WANDB_MODE": "online"}
    answer = subprocess.run(
        cli.command("train", "-m", *overrides, *text, *swept),
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    cells = read_ledger(tmp_path / "outputs" / "runs").cells
    runs = {run.name: run for run in server.runs.values()}
    assert sorted(runs) == sorted(f"{cell.arm} s1" for cell in cells)
    assert {run.group for run in runs.values()} == {f"runs/{cell.arm}" for cell in cells}
    levels = {(run.settings["factor/eps"], run.settings["factor/feedforward"]) for run in runs.values()}
    assert levels == {(1e-6, "gelu"), (1e-6, "swiglu"), (1e-4, "gelu"), (1e-4, "swiglu")}
    assert all(run.exit_code == 0 and run.rows for run in runs.values())


@pytest.mark.slow
def test_offline_the_verdict_is_in_the_segment_and_stays_there(tmp_path):
    sweep = make_sweep(tmp_path / "sweep", seeds=(1,))
    for command in (("compare", sweep, "--wandb"), ("sync", sweep, "--offline")):
        answer = run(tmp_path, *command)
        assert answer.returncode == 0, answer.stderr
        for folder in sweep.glob("num*"):
            (segment,) = segments(folder)
            records = read_segment(tmp_path, segment)
            assert len(history(records)) == 2
            summary = {key: value for each in records["summary"] for key, value in each.get("update", {}).items()}
            assert summary["compare/baseline"] == "kv4 theta1e3"
            assert steps(tmp_path, segment) == [1, 2]


@pytest.mark.slow
def test_a_server_that_hangs_costs_one_timeout_and_the_comparison_is_whole(tmp_path, sweep, server):
    server.trouble = "hang"
    for folder in sweep.glob("num*"):
        config = RunFolder(folder).read_config() | {"tracking": {"init_timeout_seconds": 2}}
        RunFolder(folder).config.write_text(json.dumps(config))
    answer = run(tmp_path, "compare", sweep, "--wandb", "--quiet", **server.variables)
    plain = run(tmp_path, "compare", sweep)
    assert (answer.returncode, answer.stdout) == (0, plain.stdout)
    assert answer.stderr.startswith(f"W&B: verdicts of 0 of 8 runs; then {sweep}/num_kv_heads=4-theta=1e3-seed=1")
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("trouble", ["disabled", "damaged", "broken"])
def test_whatever_is_wrong_is_one_line_and_the_comparison_is_whole(sweep, trouble, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled" if trouble == "disabled" else "offline")
    assert main([str(sweep)]) == 0
    plain = capsys.readouterr().out
    first = sweep / "num_kv_heads=4-theta=1e3-seed=1-431".ljust(48, "0")
    if trouble == "damaged":
        (sweep / first.name / "metrics.jsonl").write_text("x\n{}\n")
    if trouble == "broken":
        monkeypatch.setattr("atomiclm.sync.WeightsAndBiases", None)
    assert main([str(sweep), "--wandb", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.out == plain
    assert shown.err.count("\n") == 1
    said = {"disabled": "WANDB_MODE is disabled", "damaged": "metrics.jsonl", "broken": "not callable"}
    assert shown.err.startswith("W&B: ")
    assert said[trouble] in shown.err
