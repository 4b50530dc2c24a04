"""A run that was asked to stop is preempted in W&B, not failed; no row is lost, and nothing there holds up the end."""

import json
import signal
import subprocess
import time

import pytest
from cli import TINY, command, corpus, environment, only_run
from fake_wandb import serving
from wandb_driver import drive, loss_rows, make_run, read_segment, segments

from atomiclm.tracking import RunFolder, read_metrics, write_summary
from atomiclm.tracking.wandb_mirror import sent_rows
from atomiclm.tracking.wandb_run import exit_code

STATUS = 75
LIMIT_SECONDS = 300


ARGUMENTS = [
    "data=text", "data.path=corpus.txt", *(override for override in TINY if override != "tracking=off"),
    "tracking.mode=online", "trainer.max_steps=1000000", "runtime.checkpoint_every_seconds=null",
]  # fmt: skip


def started(folder, server):
    """A run that only a signal ends."""
    variables = {**environment(folder), **server.variables, "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}
    variables.pop("WANDB_MODE")
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command("train", *ARGUMENTS), cwd=folder, env=variables, stdout=log, stderr=log)


def wait_until(condition, process):
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert process.poll() is None, "it ended before it was asked to"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def rows_of(folder):
    return [row for row in read_metrics(only_run(folder) / "metrics.jsonl") if row["event"] != "checkpoint"]


@pytest.mark.slow
def test_a_run_that_sigterm_stopped_is_preempted_with_every_row(tmp_path):
    corpus(tmp_path)
    with serving() as server:
        process = started(tmp_path, server)
        wait_until(lambda: server.runs and server.run.history, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_SECONDS) == STATUS, (tmp_path / "log").read_text()
        summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
        assert summary["state"] == server.run.summary["state"] == "interrupted"
        assert (server.run.preempting, server.run.exit_code) == (True, STATUS)
        assert [row["step"] for row in server.run.rows] == [row["step"] for row in rows_of(tmp_path)]
        assert not server.artifacts, "they come when the run has ended"


@pytest.mark.slow
def test_a_server_that_hangs_does_not_hold_up_a_run_that_sigterm_stopped(tmp_path):
    corpus(tmp_path)
    with serving() as server:
        server.trouble_after = ("UpsertBucket", "hang")
        process = started(tmp_path, server)
        wait_until(lambda: "W&B: http" in (tmp_path / "log").read_text(), process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_SECONDS) == STATUS, (tmp_path / "log").read_text()
        took = time.monotonic() - began
    log = (tmp_path / "log").read_text()
    assert took < 40, f"{took:.1f} s, and the mirror's own patience is a minute and more\n{log}"
    assert "atomiclm sync" in log
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["state"] == "interrupted"


@pytest.mark.slow
def test_what_was_not_waited_for_is_sent_later(tmp_path):
    folder = make_run(tmp_path / "run")
    impatient = "mirror.finish, finish = (lambda: finish(patience_seconds=5)), mirror.finish"
    cell = {
        "folder": folder, "rows": loss_rows(1, 2, 3), "state": "interrupted", "then": impatient,
        "settings": {"finish_timeout_seconds": 240}, "until_said": "/runs/",
    }  # fmt: skip
    with serving() as server:
        server.trouble_after = ("UpsertBucket", "hang")
        answer = drive(tmp_path, [cell], **server.variables)
    assert max(seconds for name, seconds in answer["waits"] if name == "finish") < 30
    assert answer["result"] is None
    assert any("not done" in line and "atomiclm sync" in line for line in answer["said"])
    assert sent_rows(RunFolder(tmp_path / "run").wandb) == 0, "rows that never arrived would be left out offline"
    with serving() as server:
        drive(tmp_path, [{"folder": folder, "rows": [], "after_step": 9, "state": "interrupted"}], **server.variables)
        assert [row["step"] for row in server.run.rows] == [1, 2, 3]
        assert (server.run.preempting, server.run.exit_code) == (True, STATUS)


@pytest.mark.slow
def test_offline_the_preemption_is_in_the_segment(tmp_path):
    folder = make_run(tmp_path / "run")
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(1), "state": "interrupted"}])
    records = read_segment(tmp_path, segments(folder)[0])
    assert len(records["preempting"]) == 1
    assert records["exit"][0]["exit_code"] == STATUS


@pytest.mark.parametrize(
    ("state", "code"), [("done", 0), ("interrupted", 75), ("running", 75), ("failed", 1), ("diverged", 1)]
)
def test_the_exit_code_of_each_state(state, code):
    """A run that says it is running, and is sent by `sync`, was killed: it goes on another time too."""
    assert exit_code({"state": state}) == code


@pytest.mark.slow
def test_on_a_full_disk_no_row_is_passed_on_and_all_arrive_later(tmp_path, server):
    """wandb would lose rows in the middle, and never say so."""
    folder = make_run(tmp_path / "run")
    fill = "import shutil, types\nshutil.disk_usage = lambda folder: types.SimpleNamespace(free=0)"
    stays = {"folder": folder, "rows": loss_rows(1, 2), "state": "interrupted", "before": fill}
    answer = drive(tmp_path, [stays], **server.variables)
    assert any("No space left" in line and "atomiclm sync" in line for line in answer["said"]), answer["said"]
    assert answer["result"] is None
    assert server.run.rows == []
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(3), "after_step": 2}], **server.variables)
    assert [row["step"] for row in server.run.rows] == [1, 2, 3]


@pytest.mark.slow
def test_a_failed_run_stays_a_failed_one(tmp_path, server):
    folder = make_run(tmp_path / "run")
    write_summary(RunFolder(tmp_path / "run").summary, {"state": "failed", "variant": "0", "name": "s"})
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(1), "state": "failed"}], **server.variables)
    assert (server.run.preempting, server.run.exit_code) == (False, 1)
