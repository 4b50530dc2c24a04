"""Artifacts: what is sent, what it says, and the lineage W&B draws from it."""

import hashlib
import json
from pathlib import Path

import pytest
from wandb_driver import drive, loss_rows, make_run

from atomiclm.tracking.wandb_mirror import QUIET_SECONDS, SPARE_SECONDS


def with_checkpoint(path, content=b"weights"):
    folder = make_run(path)
    for step in (1, 2):
        checkpoint = Path(folder) / "checkpoints" / f"step_{step:08d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(content)
        (checkpoint / "manifest.json").write_text("{}")
    torn = Path(folder) / "checkpoints" / "step_00000003"  # killed before its manifest was written
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(content)
    return folder


def kinds(server):
    return [(artifact.type, artifact.made_by, artifact.used_by) for artifact in server.artifacts.values()]


@pytest.mark.slow
def test_the_run_uses_tokenizer_and_data_then_makes_a_checkpoint(tmp_path, server):
    folder = with_checkpoint(tmp_path / "run")
    cell = {"folder": folder, "rows": loss_rows(1), "settings": {"artifacts": "all"}}
    answer = drive(tmp_path, [cell], **server.variables)
    assert answer["result"]["sent"] == 1
    run = server.run.id
    assert kinds(server) == [("tokenizer", None, [run]), ("data", None, [run]), ("model", run, [])]
    tokenizer, data, model = server.artifacts.values()
    assert tokenizer.metadata["sha256"] == hashlib.sha256((Path(folder) / "tokenizer.json").read_bytes()).hexdigest()
    assert json.loads(data.files["manifest.json"])["corpus_sha256"] == "c" * 64
    assert data.metadata["validation_sha256"] == "v" * 64
    assert "/somewhere" not in json.dumps(data.metadata)
    assert (model.metadata["step"], model.metadata["seed"], model.metadata["variant"]) == (2, 1, "0123abcd")
    assert set(model.files) == {"model.safetensors", "manifest.json"}
    assert model.aliases == ["latest", "step_00000002"]


@pytest.mark.slow
def test_by_default_the_checkpoint_stays_here_and_runs_share_tokenizer_and_data(tmp_path, server):
    cells = [{"folder": with_checkpoint(tmp_path / name), "rows": loss_rows(1)} for name in ("one", "two")]
    drive(tmp_path, cells, **server.variables)
    runs = list(server.runs)
    assert kinds(server) == [("tokenizer", None, runs), ("data", None, runs)]


@pytest.mark.slow
def test_none_and_offline_send_no_artifacts(tmp_path, server):
    cells = [
        {"folder": make_run(tmp_path / "one"), "rows": loss_rows(1), "settings": {"artifacts": "none"}},
        {
            "folder": make_run(tmp_path / "two"),
            "rows": loss_rows(1),
            "settings": {"artifacts": "all", "mode": "offline"},
        },
    ]
    drive(tmp_path, cells, **server.variables)
    assert server.artifacts == {}


@pytest.mark.slow
def test_artifacts_that_hang_are_given_up_within_the_timeout_and_said(tmp_path, server):
    folder = make_run(tmp_path / "run")
    server.silent_operations.add("CreateArtifact")
    cell = {
        "folder": folder,
        "rows": loss_rows(1, 2),
        "settings": {"finish_timeout_seconds": 4},
        "until_said": "/runs/",
    }
    answer = drive(tmp_path, [cell], **server.variables)
    assert answer["result"] is None
    assert any("atomiclm sync" in line for line in answer["said"])
    assert dict(answer["waits"])["finish"] < 4 + SPARE_SECONDS + QUIET_SECONDS
    # wandb sends its last rows after its artifacts; what it held back arrives as soon as the server answers.
    server.silent_operations.clear()
    drive(tmp_path, [{"folder": folder, "rows": [], "after_step": 9}], **server.variables)
    assert [item["step"] for item in server.run.rows] == [1, 2]
    assert [kind for kind, _, _ in kinds(server)] == ["tokenizer", "data"]
