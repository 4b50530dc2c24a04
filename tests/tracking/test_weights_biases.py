"""The mirror through the real wandb, in processes of their own, read back with wandb's own reader or a fake server."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atomiclm.tracking import WeightsAndBiases
from atomiclm.tracking.record import to_json

DRIVER = """
import json, os, signal, sys, time
from pathlib import Path
from atomiclm.tracking import Record, RunFolder, WeightsAndBiases

said = []
for cell in json.load(sys.stdin):
    folder = RunFolder(Path(cell["folder"]))
    record = Record(folder.metrics)
    record.truncate(cell.get("after_step", -1))
    mirror = WeightsAndBiases(**cell.get("settings", {}))
    before = time.monotonic()
    mirror.start(folder, run_id=folder.run_id, name=folder.run_id, group="study/variant",
                 config={"model": {"dim": 8, "lr": 3e-4}}, derived={"parameters": 10}, say=said.append)
    assert time.monotonic() - before < 0.5, "start must not wait for anything"
    for row in cell["rows"]:
        record.append(row)
    if cell.get("kill"):
        while not said:
            time.sleep(0.05)
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGKILL)
    mirror.finish(cell.get("state", "done"), {"validation/loss": 1.5, "anchors": {"bigram": 3.0}})
print(json.dumps({"said": said, "wandb": "wandb" in sys.modules, "torch": "torch" in sys.modules}))
"""


def row(step, event="train", **values):
    return {"event": event, "step": step, "tokens": step * 64, "seconds": step * 0.5, "flops": step * 1e9, **values}


def loss_rows(*steps):
    return [row(step, **{"train/loss": 10.0 - step}) for step in steps]


def sandbox(tmp_path, **variables):
    """An environment in which wandb finds no key and writes nowhere but below tmp_path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "NETRC", "XDG"))}
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return {**kept, "HOME": str(home), "NETRC": str(home / ".netrc"), **variables}


def drive(tmp_path, cells, killed=False, **variables):
    # In a session of its own: the wandb service must be able to outlive nothing but this call.
    process = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=to_json(cells).decode(),
        env=sandbox(tmp_path, **variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    if killed:
        assert process.returncode == -9, process.stderr
        return None
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.strip().splitlines()[-1])


def online(server_url):
    return {"WANDB_BASE_URL": server_url, "WANDB_API_KEY": "0" * 40}


def segments(folder):
    return sorted((Path(folder) / "wandb").glob("*run-*-*"))


def read_segment(tmp_path, segment):
    """Records by type, with wandb's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(segment)]
    answer = subprocess.run(command, env=sandbox(tmp_path), capture_output=True, text=True, check=True)
    records = {}
    for record in map(json.loads, answer.stdout.splitlines()):
        records.setdefault(record["type"], []).append(record[record["type"]])
    return records


def history(records):
    return [record["item"] for record in records["history"]]


def steps(tmp_path, segment):
    return [item["step"] for item in history(read_segment(tmp_path, segment))]


def test_offline_runs_arrive_whole_and_two_in_one_process_stay_two(tmp_path):
    samples = [{"prompt": "def ", "text": "def f():\n    pass"}]
    rows = [
        *loss_rows(1, 2),
        row(2, "validation", **{"validation/loss": 3.5, "validation/bits_per_byte": float("inf")}),
        row(2, "sample", samples=samples),
        row(2, "checkpoint", path="step_00000002"),
    ]
    first, second = str(tmp_path / "outputs" / "s" / "lr=0.1-seed=1-aa"), str(tmp_path / "outputs" / "s" / "two")
    answer = drive(
        tmp_path,
        [{"folder": first, "rows": rows}, {"folder": second, "rows": loss_rows(1), "state": "failed"}],
    )
    assert not answer["torch"]
    assert len(answer["said"]) == 2
    assert all("offline" in line for line in answer["said"])

    (segment,) = segments(first)
    records = read_segment(tmp_path, segment)
    items = history(records)
    assert [item["step"] for item in items] == [1, 2, 2, 2]
    assert all({"step", "tokens", "seconds", "flops"} <= item.keys() for item in items)
    assert items[1]["train/loss"] == 8.0
    assert items[2]["validation/loss"] == 3.5
    assert items[2]["validation/bits_per_byte"] == "Infinity"
    (table,) = (segment / "files" / "media" / "table").iterdir()
    assert json.loads(table.read_text())["data"] == [[2, 128, "def ", "def f():\n    pass"]]
    assert (records["metric"][0]["glob_name"], records["metric"][0]["step_metric"]) == ("*", "tokens")
    run = records["run"][0]
    assert (run["run_id"], run["run_group"], run["project"]) == ("lr=0.1-seed=1-aa", "study/variant", "atomiclm")
    assert run["config"]["update"]["model"] == {"dim": 8, "lr": 3e-4}
    assert run["config"]["update"]["derived"] == {"parameters": 10}
    summary = {key: value for record in records["summary"] for key, value in record.get("update", {}).items()}
    assert (summary["validation/loss"], summary["anchors/bigram"], summary["state"]) == (1.5, 3.0, "done")
    assert records["exit"] == [{"exit_code": 0}]

    (other,) = segments(second)
    records = read_segment(tmp_path, other)
    assert records["run"][0]["run_id"] == "two"
    assert records["exit"] == [{"exit_code": 1}]
    assert len(records["history"]) == 1


def test_disabled_never_imports_wandb(tmp_path):
    folder = str(tmp_path / "run")
    answer = drive(tmp_path, [{"folder": folder, "rows": loss_rows(1), "settings": {"mode": "disabled"}}])
    assert answer == {"said": [], "wandb": False, "torch": False}
    answer = drive(tmp_path, [{"folder": folder, "rows": []}], WANDB_MODE="disabled")
    assert not answer["wandb"]
    assert not (tmp_path / "run" / "wandb").exists()


def test_an_offline_run_killed_and_resumed_is_whole_and_goes_on_after_what_was_synced(tmp_path):
    folder = str(tmp_path / "run")
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(1, 2, 3, 4), "kill": True}], killed=True)
    (torn,) = segments(folder)
    time.sleep(1.1)  # wandb names segments by the second
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(3, 4, 5), "after_step": 2, "state": "interrupted"}])
    (whole,) = segments(folder)
    assert whole != torn
    assert steps(tmp_path, whole) == [1, 2, 3, 4, 5]

    (whole / "run-run.wandb.synced").touch()  # what `wandb sync` leaves behind
    time.sleep(1.1)
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(5, 6), "after_step": 4}])
    assert segments(folder)[0] == whole
    assert steps(tmp_path, segments(folder)[1]) == [6]


def test_online_rows_arrive_once_however_often_the_run_was_resumed(tmp_path, server):
    folder = str(tmp_path / "run")
    # Written while nothing was mirrored: sent later from the record.
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(1, 2), "settings": {"mode": "disabled"}}])
    cell = {"folder": folder, "rows": loss_rows(3, 4, 5), "after_step": 2, "state": "interrupted"}
    answer = drive(tmp_path, [cell], **online(server.url))
    assert answer["said"] == [f"W&B: {server.url}/somebody/project/runs/run"]
    assert [item["step"] for item in server.rows] == [1, 2, 3, 4, 5]
    assert server.exit_code == 1
    assert server.config["derived"]["value"] == {"parameters": 10}

    # Resumed from a checkpoint before the last rows: 4 and 5 are written again, and not sent again.
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(4, 5, 6), "after_step": 3}], **online(server.url))
    assert [item["step"] for item in server.rows] == [1, 2, 3, 4, 5, 6]
    assert [item["_step"] for item in server.rows] == [0, 1, 2, 3, 4, 5]
    assert server.exit_code == 0
    assert json.loads(server.summary)["state"] == "done"

    # Resumed without the server: only what it does not have goes into the offline segment.
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(6, 7), "after_step": 5}])
    (offline,) = [path for path in segments(folder) if path.name.startswith("offline")]
    assert steps(tmp_path, offline) == [7]


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "never answering"])
def test_a_dead_server_costs_the_mirror_not_the_run(tmp_path, silent):
    settings = {"init_timeout_seconds": 1, "finish_timeout_seconds": 1}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1] if silent else 9
        names = ("one", "two") if not silent else ("one",)
        cells = [{"folder": str(tmp_path / name), "rows": loss_rows(1, 2), "settings": settings} for name in names]
        answer = drive(tmp_path, cells, **online(f"http://127.0.0.1:{port}"))
    assert sum("online failed" in line and "going on offline" in line for line in answer["said"]) == len(names)
    for name in names:
        offline = [path for path in segments(tmp_path / name) if path.name.startswith("offline")]
        assert steps(tmp_path, offline[0]) == [1, 2]


def test_a_broken_wandb_is_one_warning(tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "wandb.py").write_text("raise RuntimeError('half installed')\n")
    path = os.pathsep.join([str(broken), str(Path(__file__).resolve().parents[2])])
    answer = drive(tmp_path, [{"folder": str(tmp_path / "run"), "rows": loss_rows(1)}], PYTHONPATH=path)
    assert answer["said"] == [
        "W&B: off, wandb cannot be used (RuntimeError: half installed); metrics.jsonl has every row"
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"mode": "on"}, "mode"),
        ({"project": "a/b"}, "project"),
        ({"project": ""}, "project"),
        ({"tags": ["x" * 65]}, "tags"),
        ({"init_timeout_seconds": 0}, "init_timeout_seconds"),
        ({"finish_timeout_seconds": -1}, "finish_timeout_seconds"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        WeightsAndBiases(**arguments)
