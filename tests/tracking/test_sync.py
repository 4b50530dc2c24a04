"""A W&B run rebuilt from the local record is the one the live mirror makes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cli
import fake_wandb
import pytest
from filelock import FileLock
from wandb_driver import loss_rows, make_run, row, sandbox, segments, steps

from atomiclm.sweep.ledger import Cell, StudyLedger, write_ledger
from atomiclm.sweep.study import Study
from atomiclm.sync import main
from atomiclm.tracking import Record, read_summary, write_summary


def sync(tmp_path, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "atomiclm.sync", *map(str, arguments)],
        cwd=tmp_path, env=sandbox(tmp_path, **variables), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def trained(path, *rows, **summary):
    """The folder of a run that was trained without W&B."""
    folder = make_run(path)
    with Record(Path(folder) / "metrics.jsonl") as record:
        for each in rows:
            record.append(each)
    file = Path(folder) / "summary.json"
    write_summary(file, {**read_summary(file), "state": "done", **summary})
    return folder


def seen(run):
    """What a person sees of a W&B run: all but the clock and wandb's own notes."""
    rows = [{key: value for key, value in item.items() if not key.startswith("_")} for item in run.rows]
    summary = {key: value for key, value in run.summary.items() if not key.startswith("_")}
    samples = summary.pop("samples", {})
    facts = run.name, run.group, run.job_type, run.tags, run.project, run.exit_code
    return rows, run.settings, summary, samples.get("sha256"), facts


@pytest.mark.slow
def test_a_run_trained_by_the_real_command_is_the_same_live_and_sent_later(tmp_path):
    text = cli.corpus(tmp_path)
    with fake_wandb.serving() as live, fake_wandb.serving() as later:
        overrides = [each for each in cli.TINY if each != "tracking=off"]
        command = cli.command(
            "train", *overrides, "data=text", f"data.path={text}", "trainer.max_steps=6", "runtime.log_every_steps=2"
        )
        environment = {**cli.environment(tmp_path), **live.variables, "WANDB_MODE": "online"}
        answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        folder = cli.only_run(tmp_path)
        shutil.copytree(
            folder, tmp_path / "elsewhere" / folder.name, ignore=shutil.ignore_patterns("rows.json", "*run-*")
        )
        answer = sync(tmp_path, tmp_path / "elsewhere", **later.variables)
        assert answer.returncode == 0, answer.stderr
        assert live.run.id == later.run.id
        for ours, theirs in zip(seen(later.run), seen(live.run), strict=True):
            assert ours == theirs
        assert len(live.run.rows) == 6
        assert [a.name for a in live.artifacts.values()] == [a.name for a in later.artifacts.values()]
        assert live.unknown == later.unknown == []


@pytest.mark.slow
def test_twice_is_the_same_run_and_a_folder_of_runs_means_all(tmp_path, server):
    samples = [{"prompt": "", "text": "t"}]
    one = trained(tmp_path / "s" / "seed=1-aaaaaaaa", *loss_rows(1, 2), row(2, "sample", samples=samples))
    two = trained(tmp_path / "s" / "seed=2-bbbbbbbb", *loss_rows(1), state="interrupted")
    write_ledger(
        tmp_path / "s", StudyLedger("s", "", [Cell("wide", 1, "seed=1-aaaaaaaa", [])], Study()),
    )  # fmt: skip
    first = sync(tmp_path, tmp_path / "s", **server.variables)
    assert first.returncode == 0, first.stderr
    assert f"{one}: 3 rows sent" in first.stdout
    assert f"{two}: 1 rows sent" in first.stdout
    before = {run.id: seen(run) for run in server.runs.values()}
    assert sorted(run.exit_code for run in server.runs.values()) == [0, 75]
    assert {run.name: run.settings.get("arm") for run in server.runs.values()} == {
        "wide s1": "wide",
        "seed=2-bbbbbbbb": None,
    }

    second = sync(tmp_path, tmp_path / "s", **server.variables)
    assert second.returncode == 0, second.stderr
    assert f"{one}: no new rows, 3 were there" in second.stdout
    assert {run.id: seen(run) for run in server.runs.values()} == before

    # An unfinished run went on: only what is new is sent.
    with Record(Path(two) / "metrics.jsonl") as record:
        record.append(loss_rows(2)[0])
    file = Path(two) / "summary.json"
    write_summary(file, {**read_summary(file), "state": "done"})
    third = sync(tmp_path, two, **server.variables)
    assert f"{two}: 1 rows sent, 1 were there" in third.stdout
    assert [run.exit_code for run in server.runs.values()] == [0, 0]
    assert [len(run.rows) for run in server.runs.values()] == [3, 2]


@pytest.mark.slow
def test_offline_segments_can_be_made_on_a_machine_without_a_key(tmp_path):
    folder = trained(tmp_path / "s" / "run", *loss_rows(1, 2, 3))
    for _ in range(2):
        answer = sync(tmp_path, folder, "--offline")
        assert answer.returncode == 0, answer.stderr
    (segment,) = segments(folder)
    assert steps(tmp_path, segment) == [1, 2, 3]


@pytest.mark.slow
def test_a_run_that_cannot_be_sent_is_said_and_the_others_are_sent(tmp_path, server):
    torn = trained(tmp_path / "s" / "a", *loss_rows(1))
    (Path(torn) / "config.yaml").write_text("{")
    held = trained(tmp_path / "s" / "b", *loss_rows(1))
    fine = trained(tmp_path / "s" / "c", *loss_rows(1))
    with FileLock(Path(held) / ".lock"):
        answer = sync(tmp_path, tmp_path / "s", **server.variables)
    assert answer.returncode == 1
    assert f"{torn}: not sent: " in answer.stderr
    assert "config.yaml is damaged" in answer.stderr
    assert f"{held}: not sent: it is being trained" in answer.stderr
    assert f"{fine}: 1 rows sent" in answer.stdout
    assert len(server.runs) == 1


@pytest.mark.slow
def test_a_server_that_dies_is_exit_status_1_and_the_next_call_finishes_it(tmp_path, server):
    folder = trained(tmp_path / "s" / "run", *loss_rows(1, 2))
    server.trouble_after = ("UpsertBucket", "hang")
    answer = sync(tmp_path, folder, "--timeout", 2, **server.variables)
    assert answer.returncode == 1
    assert "not sent" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert segments(folder)[0].name.startswith("run-"), "nothing goes offline behind the user's back"
    server.trouble = server.trouble_after = None
    assert sync(tmp_path, folder, **server.variables).returncode == 0
    assert [item["step"] for item in server.run.rows] == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.jsonl", "{}\nx\n{}\n", "metrics.jsonl: line 2 of 3 is damaged"),
        ("metrics.jsonl", None, "metrics.jsonl is missing; bring it back"),
        ("metrics.jsonl", "", "metrics.jsonl is empty; bring it back"),
        ("summary.json", None, "summary.json is missing; to write it again, type: atomiclm train"),
        ("environment.json", "{}", "environment.json is damaged ('processes'"),
        ("config.yaml", "", "config.yaml is damaged"),
    ],
)
def test_a_run_with_a_damaged_file_is_not_sent_and_the_file_is_named(tmp_path, name, content, said, capsys):
    file = Path(trained(tmp_path / "s" / "run", *loss_rows(1))) / name
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert main([str(file.parent), "--offline"]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not segments(file.parent), "W&B has not heard of it"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no folder"),
        (["s/run", "--project", "a/b"], "project='a/b'"),
        (["s/run", "--timeout", "0"], "finish_timeout_seconds=0"),
        (["s/run"], "no key was found"),
    ],
)
def test_mistakes_are_exit_status_2(tmp_path, arguments, said):
    trained(tmp_path / "s" / "run", *loss_rows(1))
    answer = sync(tmp_path, *arguments)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_the_environment_is_told_without_paths_of_the_machine(tmp_path, server):
    folder = trained(tmp_path / "s" / "run", *loss_rows(1))
    assert sync(tmp_path, folder, **server.variables).returncode == 0
    assert server.run.settings["environment"] == {"python": "3.12"}
    assert "command" not in json.dumps(server.run.settings)
