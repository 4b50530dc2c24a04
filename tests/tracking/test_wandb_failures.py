"""Whatever is wrong with W&B, training is not failed, and waits for nothing but the stated timeouts."""

import socket
import subprocess

import fake_wandb
import pytest
from wandb_driver import drive, loss_rows, make_run, row, segments, steps

from atomiclm.tracking import read_metrics
from atomiclm.tracking.wandb_mirror import QUIET_SECONDS, SPARE_SECONDS

INIT_SECONDS, FINISH_SECONDS = 2, 4
SETTINGS = {"init_timeout_seconds": INIT_SECONDS, "finish_timeout_seconds": FINISH_SECONDS}
CALL_SECONDS = 0.5
"""Longer than any call of the trainer's thread into the record and the mirror takes, on a busy machine too."""


def trained_undisturbed(answer, folder, rows, limit=INIT_SECONDS + FINISH_SECONDS + SPARE_SECONDS):
    """Every row is in the record, every call before the end returned at once, the end waited no longer than said."""
    waits = answer["waits"]
    assert max(seconds for name, seconds in waits if name != "finish") < CALL_SECONDS, waits
    assert max(seconds for name, seconds in waits if name == "finish") < limit + QUIET_SECONDS, waits
    assert read_metrics(folder / "metrics.jsonl") == rows


def rows_with_samples():
    return [*loss_rows(1, 2), row(2, "sample", samples=[{"prompt": "", "text": "t"}]), *loss_rows(3, 4)]


def given_up(answer):
    """Once, with the command that sends the run later."""
    assert sum("off from here" in line and "atomiclm sync" in line for line in answer["said"]) == 1, answer["said"]
    assert answer["result"] is None


def sent_later(tmp_path, folder, rows):
    with fake_wandb.serving() as server:
        answer = drive(tmp_path, [{"folder": folder, "rows": [], "after_step": 9}], **server.variables)
        assert answer["result"]["sent"] == rows
        assert [item["step"] for item in server.run.rows] == [1, 2, 2, 3, 4][:rows]


def test_no_key(tmp_path):
    folder = make_run(tmp_path / "run")
    cell = {"folder": folder, "rows": rows_with_samples(), "settings": {**SETTINGS, "mode": "online"}}
    answer = drive(tmp_path, [cell])
    assert "no key was found" in answer["said"][0]
    assert steps(tmp_path, segments(folder)[0]) == [1, 2, 2, 3, 4]
    trained_undisturbed(answer, tmp_path / "run", rows_with_samples())


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [401, 500, "hang"])
def test_a_server_bad_from_the_start(tmp_path, trouble):
    folder = make_run(tmp_path / "run")
    cell = {"folder": folder, "rows": rows_with_samples(), "settings": SETTINGS}
    with fake_wandb.serving(trouble) as server:
        answer = drive(tmp_path, [cell], **server.variables)
        assert server.requests
    given_up(answer)
    trained_undisturbed(answer, tmp_path / "run", rows_with_samples())
    sent_later(tmp_path, folder, 5)


@pytest.mark.slow
def test_a_refused_port_and_two_runs_in_one_process(tmp_path):
    with socket.socket() as closed:  # bound and not listening: nobody else gets the port, connections are refused
        closed.bind(("127.0.0.1", 0))
        cells = [
            {"folder": make_run(tmp_path / name), "rows": rows_with_samples(), "settings": SETTINGS}
            for name in ("one", "two")
        ]
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        answer = drive(tmp_path, cells, WANDB_BASE_URL=url, WANDB_API_KEY="0" * 40)
    assert sum("off from here" in line for line in answer["said"]) == 2
    for name in ("one", "two"):
        trained_undisturbed(answer, tmp_path / name, rows_with_samples())


@pytest.mark.slow
def test_a_server_that_stumbles_gets_everything(tmp_path):
    folder = make_run(tmp_path / "run")
    with fake_wandb.serving() as server:
        server.errors_left = 2
        settings = {**SETTINGS, "init_timeout_seconds": 20, "finish_timeout_seconds": 40}
        answer = drive(
            tmp_path, [{"folder": folder, "rows": rows_with_samples(), "settings": settings}], **server.variables
        )
        assert [item["step"] for item in server.run.rows] == [1, 2, 2, 3, 4]
    assert answer["result"]["sent"] == 5


@pytest.mark.slow
def test_a_server_that_dies_when_the_run_has_begun(tmp_path):
    folder = make_run(tmp_path / "run")
    cell = {"folder": folder, "rows": rows_with_samples(), "settings": SETTINGS, "until_said": "/runs/"}
    with fake_wandb.serving() as server:
        server.trouble_after = ("UpsertBucket", "hang")
        answer = drive(tmp_path, [cell], **server.variables)
    assert any("atomiclm sync" in line for line in answer["said"][1:]), answer["said"]
    assert answer["waited"]
    trained_undisturbed(answer, tmp_path / "run", rows_with_samples())
    # What never arrived is not taken for held: the run is whole once a server answers.
    with fake_wandb.serving() as server:
        drive(tmp_path, [{"folder": folder, "rows": [], "after_step": 9}], **server.variables)
        assert [item["step"] for item in server.run.rows] == [1, 2, 2, 3, 4]


@pytest.mark.slow
def test_a_server_that_dies_in_mid_run_has_the_rows_it_had_and_gets_the_rest_later(tmp_path):
    folder = make_run(tmp_path / "run")
    with fake_wandb.serving() as server:
        server.trouble_after = ("rows", "hang")
        cell = {"folder": folder, "rows": loss_rows(*range(1, 90)), "pause": 0.08, "settings": SETTINGS}
        answer = drive(tmp_path, [cell], **server.variables, WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL="1")
        had = len(server.run.history)
        assert 0 < had < 89
        trained_undisturbed(answer, tmp_path / "run", loss_rows(*range(1, 90)))
        server.trouble, server.trouble_after = None, None
        drive(tmp_path, [{"folder": folder, "rows": [], "after_step": 99}], **server.variables)
        assert [item["step"] for item in server.run.rows] == [*range(1, 90)]
        assert server.run.exit_code == 0


@pytest.mark.slow
def test_ctrl_c_skips_the_wait_and_the_process_ends_and_the_next_run_is_mirrored(tmp_path):
    first, second = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    slow = {"rows": loss_rows(1), "settings": {"init_timeout_seconds": INIT_SECONDS, "finish_timeout_seconds": 240}}
    with fake_wandb.serving() as server:
        server.trouble_after = ("UpsertBucket", "hang")
        skipped = {**slow, "folder": first, "until_said": "/runs/", "interrupt_after": 4}
        answer = drive(tmp_path, [skipped, {**slow, "folder": second}], **server.variables)
    ends = [seconds for name, seconds in answer["waits"] if name == "finish"]
    assert ends[0] < 4 + QUIET_SECONDS + CALL_SECONDS
    assert len(answer["waited"]) >= 1
    assert "Ctrl-C skips it" in answer["waited"][0]
    assert sum("skipped" in line for line in answer["said"]) == 1
    assert answer["took"] < 100, "the end of the process waited for wandb"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_wandb_cannot_write_its_files(tmp_path, server, mode):
    """The limit on the size of files is inherited by wandb's own process, and lifted from ours before it trains."""
    folder = make_run(tmp_path / "run")
    rows = loss_rows(*range(1, 200))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY))"
    cell = {
        "folder": folder, "rows": rows, "before": limit.format(4096), "until_said": "W&B",
        "then": limit.format("resource.RLIM_INFINITY"), "settings": {**SETTINGS, "mode": mode},
    }  # fmt: skip
    answer = drive(tmp_path, [cell], **server.variables)
    trained_undisturbed(answer, tmp_path / "run", rows)
    (log,) = (tmp_path / "run" / "wandb").glob("*run-*/*.wandb")
    assert log.stat().st_size <= 4096, "wandb could write after all, so nothing was tested"


MOUNT = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


@pytest.mark.slow
def test_a_full_disk_under_wandbs_folder(tmp_path, server):
    folder = make_run(tmp_path / "run")
    (tmp_path / "run" / "wandb").mkdir()
    script = f'mount -t tmpfs -o size=32k tmpfs "{folder}/wandb" && exec "$@"'
    if subprocess.run([*MOUNT, script, "sh", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    rows = loss_rows(*range(1, 400))
    cell = {"folder": folder, "rows": rows, "settings": {**SETTINGS}, "until_said": "W&B"}
    answer = drive(tmp_path, [cell], prefix=(*MOUNT, script, "sh"), **server.variables)
    trained_undisturbed(answer, tmp_path / "run", rows)
    # wandb loses rows in the middle and does not say so: W&B has a gap there, never a row twice or out of order.
    sent = [item["step"] for item in server.run.rows]
    assert sent == sorted(set(sent))
