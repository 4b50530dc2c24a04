"""The mirror through the real wandb, in processes of their own, read back with wandb's own reader or a fake server."""

import json
import os
import time
from pathlib import Path

import pytest
from wandb_driver import FACTS, drive, history, loss_rows, make_run, read_segment, row, segments, steps

from atomiclm.tracking import WeightsAndBiases
from atomiclm.tracking.wandb_mirror import note_rows, sent_rows


@pytest.mark.slow
def test_offline_runs_arrive_whole_and_two_in_one_process_stay_two(tmp_path):
    samples = [{"prompt": "def ", "text": "def f():\n    pass"}]
    rows = [
        *loss_rows(1, 2),
        row(2, "validation", **{"validation/loss": 3.5, "validation/bits_per_byte": float("inf")}),
        row(2, "sample", samples=samples),
        row(2, "checkpoint", path="step_00000002"),
    ]
    first = make_run(tmp_path / "outputs" / "study" / "lr=0.1-seed=1-aa")
    place = {"arm": "kv1 theta1e5", "factors": {"kv": 1, "rope.theta": 1e5}, "question": "Which of these matter?"}
    second = make_run(tmp_path / "outputs" / "study" / "two")
    answer = drive(
        tmp_path,
        [
            {"folder": first, "rows": rows, "place": place, "settings": {"tags": ["mine"]}},
            {"folder": second, "rows": loss_rows(1), "state": "failed"},
        ],
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
    assert run["run_id"].startswith("aa-")
    assert (run["display_name"], run["run_group"]) == ("kv1 theta1e5 s1", "study/kv1 theta1e5")
    assert run["notes"] == "Which of these matter?"
    assert (run["project"], run["tags"], run["job_type"]) == ("atomiclm", ["study", "mine"], "train")
    config = run["config"]["update"]
    assert (config["study"], config["variant"], config["seed"]) == ("study", "0123abcd", 1)
    assert (config["arm"], config["factor/kv"], config["factor/rope/theta"]) == ("kv1 theta1e5", 1, 1e5)
    assert config["run_id"] == "lr=0.1-seed=1-aa"
    assert config["model"] == {"dim": 8, "lr": 3e-4}
    assert config["derived"] == FACTS
    assert config["environment"] == {"python": "3.12"}
    summary = {key: value for record in records["summary"] for key, value in record.get("update", {}).items()}
    assert (summary["final/loss"], summary["anchors/bigram"], summary["state"]) == (1.5, 3.0, "done")
    assert records["exit"][0]["exit_code"] == 0

    (other,) = segments(second)
    records = read_segment(tmp_path, other)
    assert (records["run"][0]["display_name"], records["run"][0]["run_group"]) == ("two", "study/0123abcd")
    assert "notes" not in records["run"][0]
    assert "arm" not in records["run"][0]["config"]["update"]
    assert records["exit"][0]["exit_code"] == 1
    assert len(records["history"]) == 1


def test_disabled_never_imports_wandb(tmp_path):
    folder = make_run(tmp_path / "run")
    answer = drive(tmp_path, [{"folder": folder, "rows": loss_rows(1), "settings": {"mode": "disabled"}}])
    assert (answer["said"], answer["wandb"], answer["torch"]) == ([], False, False)
    answer = drive(tmp_path, [{"folder": folder, "rows": []}], WANDB_MODE="disabled")
    assert not answer["wandb"]
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.slow
def test_an_offline_run_killed_and_resumed_is_whole_and_goes_on_after_what_was_synced(tmp_path):
    folder = make_run(tmp_path / "run")
    killed = {"folder": folder, "rows": loss_rows(1, 2, 3, 4), "kill": True, "until_said": "offline", "linger": 1.5}
    drive(tmp_path, [killed], killed=True)
    (torn,) = segments(folder)
    time.sleep(1.1)  # wandb names segments by the second
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(3, 4, 5), "after_step": 2, "state": "interrupted"}])
    (whole,) = segments(folder)
    assert whole != torn
    assert steps(tmp_path, whole) == [1, 2, 3, 4, 5]

    (next(whole.glob("*.wandb"))).with_suffix(".wandb.synced").touch()  # what `wandb sync` leaves behind
    time.sleep(1.1)
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(5, 6), "after_step": 4}])
    assert segments(folder)[0] == whole
    assert steps(tmp_path, segments(folder)[1]) == [6]


@pytest.mark.slow
def test_online_rows_arrive_once_however_often_the_run_was_resumed(tmp_path, server):
    folder = make_run(tmp_path / "run")
    # Written while nothing was mirrored: sent later from the record.
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(1, 2), "settings": {"mode": "disabled"}}])
    cell = {"folder": folder, "rows": loss_rows(3, 4, 5), "after_step": 2, "state": "interrupted"}
    answer = drive(tmp_path, [cell], **server.variables)
    run = server.run
    assert answer["said"] == [f"W&B: {server.url}/somebody/atomiclm/runs/{run.id}"]
    assert [item["step"] for item in run.rows] == [1, 2, 3, 4, 5]
    assert run.exit_code == 75
    assert run.settings["derived"] == FACTS

    # Resumed from a checkpoint before the last rows: 4 and 5 are written again, and not sent again.
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(4, 5, 6), "after_step": 3}], **server.variables)
    assert [item["step"] for item in run.rows] == [1, 2, 3, 4, 5, 6]
    assert [item["_step"] for item in run.rows] == [0, 1, 2, 3, 4, 5]
    assert run.exit_code == 0
    assert run.summary["state"] == "done"

    # Resumed without the server: only what it does not have goes into the offline segment.
    drive(tmp_path, [{"folder": folder, "rows": loss_rows(6, 7), "after_step": 5}])
    (offline,) = [path for path in segments(folder) if path.name.startswith("offline")]
    assert steps(tmp_path, offline) == [7]


@pytest.mark.slow
def test_samples_are_one_table_that_tells_how_they_changed(tmp_path, server):
    def sample(step):
        return row(step, "sample", samples=[{"prompt": "a", "text": f"text {step}"}])

    folder = make_run(tmp_path / "run")
    first = {"folder": folder, "rows": [sample(1)], "state": "interrupted"}
    drive(tmp_path, [first, {"folder": folder, "rows": [sample(2)], "after_step": 1}], **server.variables)
    tables = [each for each in server.artifacts.values() if each.type == "run_table"]
    newest = json.loads(tables[-1].files["samples.table.json"])
    assert newest["columns"] == ["step", "tokens", "prompt", "text"]
    assert newest["data"] == [[1, 64, "a", "text 1"], [2, 128, "a", "text 2"]]
    assert server.run.summary["samples"]["nrows"] == 2


def test_a_segment_whose_upload_was_given_up_counts_for_nothing(tmp_path):
    note_rows(tmp_path, "run-1", 5)
    note_rows(tmp_path, "run-2", 9)
    note_rows(tmp_path, "offline-run-3", 11)
    assert sent_rows(tmp_path) == 9
    note_rows(tmp_path, "run-2", 0)
    assert sent_rows(tmp_path) == 5


def test_a_broken_wandb_is_one_warning(tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "wandb.py").write_text("raise RuntimeError('half installed')\n")
    path = os.pathsep.join([str(broken), str(Path(__file__).resolve().parents[2])])
    answer = drive(tmp_path, [{"folder": make_run(tmp_path / "run"), "rows": loss_rows(1)}], PYTHONPATH=path)
    assert answer["said"] == [
        f"W&B: off from here (RuntimeError: half installed); `atomiclm sync {tmp_path / 'run'}` sends what is missing"
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
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
